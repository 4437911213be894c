import fs from 'node:fs';
import path from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import type { DeadLetterStore } from '../../workers/flusher/dead-letter.js';
import { damagedDirectory } from '../../workers/flusher/set-aside.js';
import { EPOCHS_FILE } from '../../workers/flusher/wal/log.js';
import { listDirectory, scanSteadily, segmentFiles } from '../wal/segment-files.js';
import { type EpochFacts, type Piece, Pieces, piecesOf } from './arithmetic.js';
import { looseFrames } from './loose-frames.js';

/**
 * Where the audit takes its facts from. The order of reading is that in which an event travels: log, what was set aside, dead
 * letters, ledger. So an event that moves on while we look is seen twice, or once, but never not at all.
 */

export interface Epoch {
  readonly epoch: string;
  /** ISO 8601; undefined where `wal/epochs` does not know of it. */
  readonly startedAt: string | undefined;
  readonly facts: EpochFacts;
}

export interface Facts {
  readonly epochs: readonly Epoch[];
  /** Files in damaged/ that cannot be read, or not to the end. */
  readonly unread: readonly string[];
}

export interface FactsOptions {
  readonly walDirectory: string;
  readonly store: DeadLetterStore;
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly onProgress: (what: string) => void;
}

type ByEpoch = Map<string, Piece[]>;

export async function readFacts(options: FactsOptions): Promise<Facts> {
  const { walDirectory, store, client, database, onProgress } = options;
  const noted = readEpochs(path.join(walDirectory, EPOCHS_FILE));
  const pending = readLog(walDirectory, onProgress);
  const known = new Set([...noted.keys(), ...pending.keys()]);
  const { aside, unread } = readDamaged(damagedDirectory(walDirectory), known);
  const purged = placesOf(store.purged());
  const dead = placesOf(letterIds(store, onProgress));
  for (const source of [aside, dead, purged]) for (const epoch of source.keys()) known.add(epoch);
  const stored = await readLedger(client, database, [...known], onProgress);
  const epochs = [...known].map((epoch) => {
    const facts = {
      stored: stored.get(epoch) ?? new Pieces(),
      pending: piecesOf(pending.get(epoch) ?? []),
      dead: piecesOf(dead.get(epoch) ?? []),
      purged: piecesOf(purged.get(epoch) ?? []),
      aside: piecesOf(aside.get(epoch) ?? []),
      notedRows: noted.get(epoch)?.rows ?? 0,
    };
    return { epoch, startedAt: noted.get(epoch)?.startedAt, facts };
  });
  return { epochs, unread };
}

interface Noted {
  readonly startedAt: string;
  /** How many rows the epoch was noted to have, at its end or at the start behind it. */
  readonly rows: number;
}

/** `EPOCH TIME` for each epoch, `EPOCH rows N TIME` where it ended; other lines are none, or a later release's. */
function readEpochs(file: string): Map<string, Noted> {
  const epochs = new Map<string, Noted>();
  if (!fs.existsSync(file)) return epochs;
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    const [, epoch, rows, at] = /^(\d+)(?: rows (\d+))? (\d{4}-\S+)$/.exec(line) ?? [];
    if (epoch === undefined || at === undefined) continue;
    const before = epochs.get(epoch);
    epochs.set(epoch, { startedAt: before?.startedAt ?? at, rows: Math.max(before?.rows ?? 0, Number(rows ?? 0)) });
  }
  return epochs;
}

function readLog(walDirectory: string, onProgress: (what: string) => void): ByEpoch {
  const pending: ByEpoch = new Map();
  const files = segmentFiles(walDirectory);
  for (const [at, { file }] of files.entries()) {
    onProgress(`log: ${at} of ${files.length} segments read`);
    const scan = scanSteadily(file);
    if (scan?.kind !== 'segment') continue;
    const key = `segment ${scan.head.segmentId.toString(16)}`;
    for (const frame of scan.frames) push(pending, frame, key);
  }
  return pending;
}

function readDamaged(directory: string, known: ReadonlySet<string>): { aside: ByEpoch; unread: string[] } {
  const aside: ByEpoch = new Map();
  const unread: string[] = [];
  for (const name of listDirectory(directory)) {
    const file = path.join(directory, name);
    const scan = name.endsWith('.wal') ? scanSteadily(file) : undefined;
    if (scan?.kind === 'segment') {
      for (const frame of scan.frames) push(aside, frame, name);
      continue;
    }
    const frames = scan?.kind === 'newer' ? [] : looseFrames(file, Number(/\.(\d+)$/.exec(name)?.[1] ?? 0), known);
    for (const frame of frames) push(aside, frame, name);
    if (frames.length === 0) unread.push(name);
  }
  return { aside, unread };
}

function* letterIds(store: DeadLetterStore, onProgress: (what: string) => void): Generator<string> {
  for (const file of store.files()) {
    onProgress('dead letters');
    for (const { id } of store.read(file)) yield id;
  }
}

function placesOf(ids: Iterable<string>): ByEpoch {
  const places: ByEpoch = new Map();
  for (const id of ids) {
    const [epoch = '', sequence = ''] = id.split(':');
    push(places, { epoch: BigInt(epoch), firstSequence: BigInt(sequence), rows: 1 }, id);
  }
  return places;
}

function push(
  pieces: ByEpoch,
  { epoch, firstSequence, rows }: { readonly epoch: bigint; readonly firstSequence: bigint; readonly rows: number },
  key: string,
): void {
  const name = String(epoch);
  const from = Number(firstSequence);
  const list = pieces.get(name);
  const piece = { from, to: from + rows, key };
  if (list === undefined) pieces.set(name, [piece]);
  else list.push(piece);
}

/** Epochs asked for in one query: they stand in its URL. */
const EPOCHS_PER_QUERY = 200;

type LedgerRow = readonly [epoch: string, token: string, done: 0 | 1, apart: 0 | 1, first: string, rows: number];

async function readLedger(
  client: ClickHouseClient,
  database: string,
  epochs: readonly string[],
  onProgress: (what: string) => void,
): Promise<Map<string, Pieces>> {
  const stored = new Map<string, Pieces>();
  let read = 0;
  for (let at = 0; at < epochs.length; at += EPOCHS_PER_QUERY) {
    const result = await client.query({
      query: `
        SELECT toString(epoch), token, done, apart, toString(range.1) AS first, range.2
        FROM (
          SELECT epoch, token, any(ranges) AS all_ranges, max(state = 'completion') AS done, max(state = 'refused') AS apart
          FROM ${tableName(database, 'segments')}
          WHERE epoch IN {epochs:Array(UInt64)}
          GROUP BY epoch, token
          HAVING done OR apart
        )
        ARRAY JOIN all_ranges AS range
        ORDER BY epoch, range.1, apart DESC, range.2 DESC`,
      query_params: { epochs: epochs.slice(at, at + EPOCHS_PER_QUERY).map(BigInt) },
      clickhouse_settings: { optimize_aggregation_in_order: 1 },
      format: 'JSONCompactEachRow',
    });
    for await (const rows of result.stream<LedgerRow>()) {
      for (const row of rows) addLedgerRow(stored, row.json());
      read += rows.length;
      onProgress(`ledger: ${read} ranges read`);
    }
  }
  return stored;
}

/** In the order of `comparePieces`: what was taken apart first, then what lies within it. */
function addLedgerRow(stored: Map<string, Pieces>, [epoch, token, done, apart, first, rows]: LedgerRow): void {
  let pieces = stored.get(epoch);
  if (pieces === undefined) {
    pieces = new Pieces();
    stored.set(epoch, pieces);
  }
  const from = Number(first);
  const piece = { from, to: from + rows, key: `batch ${token.slice(0, 12)}` };
  if (apart === 1) pieces.add({ ...piece, apart: true });
  if (done === 1) pieces.add(piece);
}
