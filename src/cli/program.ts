import { Command, Option } from 'commander';
import { type Flags, type OptionRow, optionTable } from '../shared/config.js';
import { VERSION } from '../shared/version.js';
import { addOperatorCommands, type OperatorActions } from './operator-commands.js';

/**
 * The command line, generated from the option table. The options belong to the program, not to its commands, so that they
 * may stand before or after a command, and none is given a default or a variable here: `loadConfig` knows the order in
 * which flags, environment and file win, and must see what was really given.
 */

export const MIGRATE_ACTIONS = ['up', 'down', 'status'] as const;
export type MigrateAction = (typeof MIGRATE_ACTIONS)[number];

export interface Actions extends OperatorActions {
  serve(flags: Flags): Promise<void>;
  migrate(action: MigrateAction, flags: Flags): Promise<void>;
}

/** Where standard output is no terminal, characters. */
const HELP_WIDTH = 120;

const AFTER_HELP = `
A flag wins over the environment variable beside it, the environment over the file. An unknown PENSTOCK_* variable or a
value that cannot be meant stops the start. SIGTERM drains and exits 0.`;

export function createProgram(actions: Actions): Command {
  // Settings that commands inherit are copied when a command is made, so they stand before, and what they must not
  // inherit behind.
  const program = new Command('penstock')
    .exitOverride()
    .description('Durable HTTP event ingestion and exact event metrics on ClickHouse.')
    .usage('[serve | migrate | dead-letter | wal | audit | forget] [options]')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this')
    .helpCommand(false)
    .configureHelp({ helpWidth: process.stdout.columns ?? HELP_WIDTH })
    .addHelpText('after', AFTER_HELP)
    .addOption(
      new Option(
        '--config <file>',
        'JSON file of options, keys as the flags without dashes in front [PENSTOCK_CONFIG]',
      ),
    );
  for (const row of optionTable()) program.addOption(optionFor(row));
  const flags = () => program.opts<Flags>();

  program
    .command('serve')
    .description('take events and answer metrics (the default)')
    .action(() => actions.serve(flags()));
  const migrate = program
    .command('migrate')
    .description('bring the database to this version, or show where it is')
    .helpCommand(false)
    .addHelpText('after', '\nTakes the options of penstock, see penstock --help.');
  const summaries: Record<MigrateAction, string> = {
    up: 'apply every migration that is missing',
    down: 'take back the last migration',
    status: 'list the migrations and whether each is applied',
  };
  for (const action of MIGRATE_ACTIONS) {
    migrate
      .command(action)
      .description(summaries[action])
      .action(() => actions.migrate(action, flags()));
  }
  addOperatorCommands(program, actions, flags);
  program.allowExcessArguments().action(() => {
    const [unknown] = program.args;
    if (unknown !== undefined) program.error(`error: unknown command '${unknown}'`);
    return actions.serve(flags());
  });
  return program;
}

function optionFor(row: OptionRow): Option {
  // A boolean may stand alone, and must be able to say `false` against an environment that says `true`.
  const value = row.kind === 'boolean' ? '[true|false]' : `<${VALUE_NAMES[row.kind]}>`;
  const help = row.help.replaceAll('`', '').replace(/\.$/, '');
  return new Option(`${row.flag} ${value}`, `${help} [${row.variable}, default ${row.default}]`).helpGroup(
    `${row.group}:`,
  );
}

const VALUE_NAMES = { text: 'text', url: 'url', integer: 'n', bytes: 'size', list: 'list', keys: 'keys' } as const;
