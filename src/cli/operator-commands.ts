import { Argument, type Command, Option } from 'commander';
import type { Flags } from '../shared/config.js';

/** The commands by which an operator looks after the durable state: their arguments and their help. */

export interface OperatorActions {
  deadLetters(request: DeadLetterRequest, flags: Flags): Promise<void>;
  wal(request: WalRequest, flags: Flags): Promise<void>;
  audit(request: AuditRequest, flags: Flags): Promise<void>;
  forget(request: ForgetRequest, flags: Flags): Promise<void>;
}

export type DeadLetterRequest =
  | { readonly action: 'ls'; readonly json: boolean }
  | { readonly action: 'show'; readonly id: string; readonly json: boolean }
  | { readonly action: 'requeue'; readonly ids: readonly string[]; readonly all: boolean; readonly json: boolean }
  | {
      readonly action: 'purge';
      readonly ids: readonly string[];
      readonly all: boolean;
      readonly before?: string;
      readonly json: boolean;
    };

export interface WalRequest {
  readonly action: 'verify' | 'stat' | 'dump' | 'replay';
  /** A data directory or the log's folder in it; absent: that of the configuration. */
  readonly directory: string | undefined;
  readonly json: boolean;
  /** dump: events rather than frames. */
  readonly events: boolean;
  /** replay: confirmed segments are moved to `kept/`, not removed. */
  readonly keep: boolean;
}

export interface AuditRequest {
  readonly deep: boolean;
  readonly json: boolean;
}

export interface ForgetRequest {
  readonly userIds: readonly string[];
  /** Until the log is shipped and the days are rebuilt. */
  readonly wait: boolean;
  readonly json: boolean;
}

const OPTIONS_NOTE = '\nTakes the options of penstock (data directory, ClickHouse), see penstock --help.';

const jsonOption = () => new Option('--json', 'JSON instead of text');

type Values = Readonly<Record<string, unknown>>;

export function addOperatorCommands(program: Command, actions: OperatorActions, flags: () => Flags): void {
  addDeadLetter(program, actions, flags);
  addWal(program, actions, flags);
  addAudit(program, actions, flags);
  addForget(program, actions, flags);
}

const DEAD_LETTER_NOTE = `
An id is EPOCH:SEQUENCE, as "ls" shows it. All of these work beside a running instance. Exit codes: 0 all is well, 1
there is something to look at (ls: there are letters; requeue: some are refused again; a letter that was named is
not there), 2 usage.`;

function addDeadLetter(program: Command, actions: OperatorActions, flags: () => Flags): void {
  const group = program
    .command('dead-letter')
    .description('events that ClickHouse refused: look at them, send them again, throw them away')
    .helpCommand(false)
    .addHelpText('after', DEAD_LETTER_NOTE + OPTIONS_NOTE);
  const letters = new Argument('[id...]', 'letters');
  const all = () => new Option('--all', 'all letters');
  const run = (request: DeadLetterRequest) => actions.deadLetters(request, flags());
  group
    .command('ls')
    .description('list the letters, oldest segment first (--json: a line each)')
    .addOption(jsonOption())
    .action((_options, command: Command) => run({ action: 'ls', ...switches(command) }));
  group
    .command('show')
    .description('show one letter with its event')
    .argument('<id>', 'the letter')
    .addOption(jsonOption())
    .action((id: string, _options, command: Command) => run({ action: 'show', id, ...switches(command) }));
  group
    .command('requeue')
    .description('send letters to ClickHouse again; those that it takes go away, the others stay with its new error')
    .addArgument(letters)
    .addOption(all())
    .addOption(jsonOption())
    .action((ids: string[], _options, command: Command) => run({ action: 'requeue', ids, ...switches(command) }));
  group
    .command('purge')
    .description('throw letters away for good; that they were is noted in the directory')
    .addArgument(letters)
    .addOption(all())
    .addOption(
      new Option('--before <date>', 'letters that were set aside before this, for example 2026-02-25T13:00:00Z'),
    )
    .addOption(jsonOption())
    .action((ids: string[], _options, command: Command) => {
      const { before } = command.opts<{ before?: string }>();
      return run({ action: 'purge', ids, ...switches(command), ...(before === undefined ? {} : { before }) });
    });
}

function switches(command: Command): { all: boolean; json: boolean } {
  const { all, json } = command.opts<Values>();
  return { all: all === true, json: json === true };
}

const WAL_NOTE = `
DIR is a data directory or the wal/ in it; absent: that of the configuration. verify, stat and dump only read, also
beside a running instance. Exit codes: 0 all is well, 1 something is damaged or set aside, 2 usage.`;

const REPLAY_NOTE = `
For the directory of an instance that will never come back: each segment goes to the configured ClickHouse under the
token that it had, so that what had been sent already counts once. Refused while a process has the directory. What
ClickHouse refuses goes to dead-letter/ beside the log. Exit codes: 0 everything is stored, 1 something is left, set
aside or refused, 2 usage.`;

function addWal(program: Command, actions: OperatorActions, flags: () => Flags): void {
  const group = program
    .command('wal')
    .description('the write-ahead log of a data directory: check it, look into it, ship what is left of it')
    .helpCommand(false)
    .addHelpText('after', WAL_NOTE + OPTIONS_NOTE);
  const add = (action: WalRequest['action'], description: string): Command =>
    group
      .command(action)
      .description(description)
      .addArgument(new Argument('[dir]', 'data directory, or the wal/ in it'))
      .addOption(jsonOption())
      .action((directory: string | undefined, _options, command: Command) => {
        const { json, events, keep } = command.opts<Values>();
        const request = { action, directory, json: json === true, events: events === true, keep: keep === true };
        return actions.wal(request, flags());
      });
  add('verify', 'read every segment: heads, frames, checksums, sequence numbers');
  add('stat', 'sum up what is there');
  add('dump', 'list the frames (--json: a line each)').addOption(
    new Option('--events', 'the events instead, as JSON, a line each'),
  );
  add('replay', 'ship the segments of an instance that will never come back')
    .addOption(new Option('--keep', 'move confirmed segments to kept/ instead of removing them'))
    .addHelpText('after', REPLAY_NOTE);
}

const AUDIT_NOTE = `
Every sequence number that was synced must be stored (a completion in the ledger, table segments), pending (in
wal/), a dead letter, purged, or set aside (in wal/damaged/, as far as it can be read). The log is read before the
ledger, and what looks wrong is looked at again, so that a running instance may go on shipping. Sent twice is no
overlap; two batches that claim one number are.

Not seen: events behind the last segment of an epoch that is known here, if that segment's file vanished after a
crash and before the next start, which notes how far the log goes. Nor that rows have gone from the table events
afterwards: --deep looks each event of the segments in wal/kept/ (PENSTOCK_WAL_KEEP_MS) up in it by its identity.

Exit codes: 0 everything is accounted for, 1 a gap, an overlap or (--deep) a missing event, 2 usage.`;

function addAudit(program: Command, actions: OperatorActions, flags: () => Flags): void {
  program
    .command('audit')
    .description('prove by arithmetic that every event that was synced is stored, pending or set aside')
    .addOption(new Option('--deep', 'look up each event of kept segments in ClickHouse'))
    .addOption(jsonOption())
    .addHelpText('after', AUDIT_NOTE + OPTIONS_NOTE)
    .action((_options, command: Command) => {
      const { deep, json } = command.opts<Values>();
      return actions.audit({ deep: deep === true, json: json === true }, flags());
    });
}

const FORGET_NOTE = `
Deletes the raw rows of users, their numbers in the rollups, and what this data directory has of them: dead letters,
kept segments (whole files: ClickHouse has the rest), spares. Days on which they had events are rebuilt by a running
instance, and answered from raw rows until then. Their ids go on a list, as hashes: what is sent of them again is
refused with the code user_forgotten by every instance within seconds, and deleted where it came in otherwise.

Beside a running instance it waits until that one refuses them and has shipped its log. Without one, the log of this
directory is left for its next start, and counted. Logs of other instances and backups are not looked at; ClickHouse
removes the files of deleted rows some minutes later. An id on a command line is seen by others on the machine.

Safe to end at any time and to run again. Exit codes: 0 done, 1 something is left (it says what), 2 usage.`;

function addForget(program: Command, actions: OperatorActions, flags: () => Flags): void {
  const userId = new Option('--user-id <id>', 'the user; may be given several times')
    .argParser<string[]>((id, before: string[] | undefined) => [...(before ?? []), id])
    .makeOptionMandatory();
  program
    .command('forget')
    .description('delete all that there is of users, and refuse what is sent of them again')
    .addOption(userId)
    .addOption(new Option('--no-wait', 'return without waiting for the log and the rebuilding of days'))
    .addOption(jsonOption())
    .addHelpText('after', FORGET_NOTE + OPTIONS_NOTE)
    .action((_options, command: Command) => {
      const { userId: userIds, wait, json } = command.opts<{ userId: string[]; wait: boolean; json?: boolean }>();
      return actions.forget({ userIds, wait, json: json === true }, flags());
    });
}
