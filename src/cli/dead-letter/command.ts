import type { Config } from '../../shared/config.js';
import { deadLetterDirectory, type DeadLetter, DeadLetterStore } from '../../workers/flusher/dead-letter.js';
import { commandLog, requireSchema, withClickHouse } from '../clickhouse-access.js';
import { count, EXIT_FINDING, EXIT_WELL, print, printJson, Progress, table, UsageError } from '../console.js';
import type { DeadLetterRequest } from '../operator-commands.js';
import { Requeue } from './requeue.js';

/**
 * `penstock dead-letter`: what ClickHouse has refused, looked at, sent again or thrown away, beside a running instance or
 * without one.
 */
export async function deadLetters(request: DeadLetterRequest, config: Config): Promise<number> {
  const store = new DeadLetterStore(deadLetterDirectory(config.dataDir));
  switch (request.action) {
    case 'ls':
      return list(store, request.json);
    case 'show':
      return show(store, request.id, request.json);
    case 'requeue':
      return requeue(store, selectionOf(request), request.json, config);
    case 'purge':
      return purge(store, selectionOf(request), request.json);
  }
}

/** Which letters are meant. */
interface Selection {
  readonly ids: ReadonlySet<string> | undefined;
  /** Unix ms. */
  readonly beforeMs: number;
}

function selectionOf({ ids, all, before }: { ids: readonly string[]; all: boolean; before?: string }): Selection {
  if ([ids.length > 0, all, before !== undefined].filter(Boolean).length !== 1) {
    throw new UsageError('name the letters by their ids, or say which with --all or --before, one of these');
  }
  for (const id of ids) checkId(id);
  const beforeMs = before === undefined ? Infinity : Date.parse(before);
  if (Number.isNaN(beforeMs))
    throw new UsageError(`--before: expected a date such as 2026-02-25 or 2026-02-25T13:00:00Z, got ${before}`);
  return { ids: ids.length > 0 ? new Set(ids) : undefined, beforeMs };
}

function checkId(id: string): void {
  if (!/^\d+:\d+$/.test(id))
    throw new UsageError(`an id is EPOCH:SEQUENCE as "penstock dead-letter ls" shows it, not ${id}`);
}

interface Selected {
  readonly file: string;
  readonly letters: readonly DeadLetter[];
}

/** The selected letters, file by file. After a crash of the shipper, two files may hold the same letter. */
function* select(store: DeadLetterStore, { ids, beforeMs }: Selection): Generator<Selected> {
  for (const file of store.files()) {
    const letters = store
      .read(file)
      .filter((letter) => (ids?.has(letter.id) ?? true) && Date.parse(letter.at) < beforeMs);
    if (letters.length > 0) yield { file, letters };
  }
}

/** Each letter once. */
function* onceEach(selected: Iterable<Selected>): Generator<DeadLetter> {
  const seen = new Set<string>();
  for (const { letters } of selected) {
    for (const letter of letters) {
      if (!seen.has(letter.id)) yield letter;
      seen.add(letter.id);
    }
  }
}

const ALL: Selection = { ids: undefined, beforeMs: Infinity };

async function list(store: DeadLetterStore, json: boolean): Promise<number> {
  const rows: string[][] = [];
  let total = 0;
  for (const letter of onceEach(select(store, ALL))) {
    total += 1;
    const { id, at, event, error } = letter;
    if (json) await print(`${JSON.stringify(withoutRow(letter))}\n`);
    else rows.push([id, at, printable(event.event_name, 32), `${error.code} ${printable(error.message, 96)}`]);
  }
  if (json) return total === 0 ? EXIT_WELL : EXIT_FINDING;
  if (total > 0) await print(table(['id', 'set aside', 'event_name', 'error'], rows));
  await print(`${count(total, 'dead letter')}\n`);
  return total === 0 ? EXIT_WELL : EXIT_FINDING;
}

async function show(store: DeadLetterStore, id: string, json: boolean): Promise<number> {
  checkId(id);
  const [letter] = onceEach(select(store, { ids: new Set([id]), beforeMs: Infinity }));
  if (letter === undefined) {
    process.stderr.write(`penstock: there is no dead letter ${id}\n`);
    return EXIT_FINDING;
  }
  if (json) await printJson(letter);
  else await print(describe(letter));
  return EXIT_WELL;
}

function describe({ id, at, segment, error, event, receivedAtUs }: DeadLetter): string {
  const lines: readonly (readonly [string, string])[] = [
    ['id', id],
    ['set aside', at],
    ['received', new Date(receivedAtUs / 1000).toISOString()],
    ['segment', segment],
    ['error', `${error.code} ${printable(error.message, Infinity)}`],
    ['event', JSON.stringify(event, undefined, 2).replaceAll('\n', '\n           ')],
  ];
  return lines.map(([name, text]) => `${name.padEnd(9)}  ${text}\n`).join('');
}

interface Outcome {
  stored: number;
  readonly refused: { readonly id: string; readonly code: string; readonly message: string }[];
  missing: readonly string[];
}

async function requeue(store: DeadLetterStore, selection: Selection, json: boolean, config: Config): Promise<number> {
  // Ids only: all letters of a full store are more than fits into memory.
  const chosen = [...select(store, selection)].map(({ file, letters }) => ({ file, ids: idsOf(letters) }));
  const outcome: Outcome = { stored: 0, refused: [], missing: missingOf(selection, chosen) };
  if (chosen.length > 0) await sendAll(store, chosen, config, outcome);
  const { stored, refused, missing } = outcome;
  if (json) await printJson(outcome);
  else {
    await print(`${count(stored, 'dead letter')} stored, ${refused.length} refused again\n`);
    for (const { id, code, message } of refused) await print(`${id}  ${code} ${printable(message, 160)}\n`);
    sayMissing(missing);
  }
  return refused.length + missing.length === 0 ? EXIT_WELL : EXIT_FINDING;
}

interface Chosen {
  readonly file: string;
  readonly ids: ReadonlySet<string>;
}

async function sendAll(
  store: DeadLetterStore,
  chosen: readonly Chosen[],
  config: Config,
  outcome: Outcome,
): Promise<void> {
  const { clickhouseDatabase: database } = config;
  const total = chosen.reduce((sum, { ids }) => sum + ids.size, 0);
  const progress = new Progress();
  await withClickHouse(config, commandLog(config), async (client) => {
    await requireSchema(client, database);
    const sender = new Requeue(client, database, store);
    for (const { file, ids } of chosen) {
      const letters = store.read(file).filter(({ id }) => ids.has(id));
      const refused = await sender.send(file, letters, (stored) => {
        outcome.stored += stored;
        progress.tick(() => `${outcome.stored} of ${count(total, 'letter')} stored`);
      });
      outcome.refused.push(...refused.map(({ id, error }) => ({ id, ...error })));
    }
  });
}

async function purge(store: DeadLetterStore, selection: Selection, json: boolean): Promise<number> {
  const chosen = [...select(store, selection)].map(({ file, letters }) => ({ file, ids: idsOf(letters) }));
  for (const { file, ids } of chosen) {
    store.notePurged([...ids]);
    store.reduce(
      file,
      store.read(file).filter(({ id }) => !ids.has(id)),
    );
  }
  const purged = chosen.reduce((sum, { ids }) => sum + ids.size, 0);
  const missing = missingOf(selection, chosen);
  if (json) await printJson({ purged, missing });
  else {
    await print(`${count(purged, 'dead letter')} purged\n`);
    sayMissing(missing);
  }
  return missing.length === 0 ? EXIT_WELL : EXIT_FINDING;
}

function idsOf(letters: readonly DeadLetter[]): ReadonlySet<string> {
  return new Set(letters.map(({ id }) => id));
}

function missingOf({ ids }: Selection, chosen: readonly Chosen[]): string[] {
  return [...(ids ?? [])].filter((id) => !chosen.some((file) => file.ids.has(id)));
}

function sayMissing(ids: readonly string[]): void {
  for (const id of ids) process.stderr.write(`penstock: there is no dead letter ${id}\n`);
}

function withoutRow({ row: _row, ...letter }: DeadLetter): Omit<DeadLetter, 'row'> {
  return letter;
}

/** What a producer has sent must not steer the terminal that it is shown on. */
function printable(text: string, maxChars: number): string {
  const plain = text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ');
  return plain.length > maxChars ? `${plain.slice(0, maxChars - 1)}…`.toWellFormed() : plain;
}
