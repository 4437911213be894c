import type { ClickHouseClient } from '@clickhouse/client';
import type { ShippedBatch } from '../../shared/channel.js';
import { tableName } from '../../shared/clickhouse/client.js';
import { BinaryReader, readBinary } from '../../shared/clickhouse/binary.js';

/** Batches of the ledger whose rows are to be rolled, and the ranges of time in which they were received. */

/** Rows received from `fromUs` up to `toUs`, both included; Unix µs, Infinity: without end. */
export interface ReceivedRange {
  readonly fromUs: number;
  readonly toUs: number;
}

/** What is read at once where there is too much to read to the end. */
export interface Window extends ReceivedRange {
  /** Batches that lie in it. */
  readonly tokens: readonly string[];
  /** The pace at which their rows were received. */
  readonly rowsPerSecond: number;
}

/** Batches that are further apart than this, in µs, are not read at once: other instances' rows may lie between. */
const GAP_US = 1_000_000;
/**
 * How far behind a range is looked that is not the last, µs: its instance may have received an event once more by now. A clock
 * that is further behind those of the others makes such a range.
 */
const LATER_US = 5_000_000;
/** What came in less than that says little of a pace. */
const PACE_SECONDS_MIN = 0.1;
/** An intent without completion for so long: its instance may not come back. */
const ORPHAN_SECONDS = 300;
/** How far back is looked while nothing suggests more; longer than ORPHAN_SECONDS. */
const RECENT_SECONDS = 900;
/** What is noted of a batch that was rolled though its completion was never seen: that may still come. */
const INTENT_PREFIX = 'intent:';

/** Batches that are not rolled: of the last minutes, or of all times. */
export async function readPending(
  client: ClickHouseClient,
  database: string,
  recentOnly: boolean,
  signal: AbortSignal,
): Promise<ShippedBatch[]> {
  const since = (seconds: number): string => (recentOnly ? `at > now64(6) - INTERVAL ${seconds} SECOND` : '1');
  const rolled = `(SELECT sipHash128(token) FROM ${tableName(database, 'rolled_segments')} WHERE ${since(2 * RECENT_SECONDS)})`;
  const orphan = `state = 'intent' AND at < now64(6) - INTERVAL ${ORPHAN_SECONDS} SECOND AND sipHash128('${INTENT_PREFIX}' || token) NOT IN ${rolled}`;
  return await readBatches(
    client,
    `SELECT if(max(state = 'completion'), token, '${INTENT_PREFIX}' || token), ${BATCH_COLUMNS}
    FROM ${tableName(database, 'segments')}
    WHERE ${since(RECENT_SECONDS)} AND sipHash128(token) NOT IN ${rolled} AND (state = 'completion' OR (${orphan}))
    GROUP BY token FORMAT RowBinary`,
    signal,
  );
}

/** Batches whose rows may be in ClickHouse by now, in part or whole, and which are not rolled, whoever has been told of them. */
export async function readUnrolled(
  client: ClickHouseClient,
  database: string,
  signal: AbortSignal,
): Promise<ShippedBatch[]> {
  return await readBatches(
    client,
    `SELECT token, ${BATCH_COLUMNS} FROM ${tableName(database, 'segments')}
    WHERE at > now64(6) - INTERVAL ${ORPHAN_SECONDS} SECOND
      AND sipHash128(token) NOT IN (SELECT sipHash128(token) FROM ${tableName(database, 'rolled_segments')})
    GROUP BY token HAVING max(state = 'refused') = 0 FORMAT RowBinary`,
    signal,
  );
}

const BATCH_COLUMNS =
  'max(rows), toInt64(min(toUnixTimestamp64Micro(received_from))), toInt64(max(toUnixTimestamp64Micro(received_to)))';

async function readBatches(client: ClickHouseClient, query: string, signal: AbortSignal): Promise<ShippedBatch[]> {
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const batches: ShippedBatch[] = [];
  while (!reader.done) {
    const token = reader.string();
    const rows = reader.uint32();
    const receivedFromUs = reader.int64();
    const receivedToUs = reader.int64();
    // Noted by a version that did not say when: it may have been at any time.
    const known = receivedToUs > 0;
    batches.push({ token, rows, receivedFromUs, receivedToUs: known ? receivedToUs : Infinity });
  }
  return batches;
}

/** Those of `tokens` that are rolled. */
export async function readRolled(
  client: ClickHouseClient,
  database: string,
  tokens: readonly string[],
  signal: AbortSignal,
): Promise<Set<string>> {
  const result = await client.query({
    query: `SELECT DISTINCT token FROM ${tableName(database, 'rolled_segments')} WHERE token IN {tokens:Array(String)}`,
    query_params: { tokens: tokens.slice(0, 500) },
    format: 'JSONEachRow',
    abort_signal: signal,
  });
  return new Set((await result.json<{ token: string }>()).map(({ token }) => token));
}

export async function noteRolled(
  client: ClickHouseClient,
  database: string,
  tokens: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (tokens.length === 0) return;
  await client.insert({
    table: tableName(database, 'rolled_segments'),
    format: 'JSONEachRow',
    values: tokens.map((token) => ({ token })),
    clickhouse_settings: { async_insert: 0, wait_end_of_query: 1 },
    abort_signal: signal,
  });
}

/**
 * What has to be read in one statement so that every event of these batches is found, though its row may have been replaced by one
 * that was received later: without end behind the last of them, and a little further than the others go.
 */
export function rangesToTheEnd(batches: readonly ShippedBatch[]): ReceivedRange[] {
  const ranges: { fromUs: number; toUs: number }[] = [];
  for (const { receivedFromUs, receivedToUs } of batches.toSorted((a, b) => a.receivedFromUs - b.receivedFromUs)) {
    const last = ranges.at(-1);
    if (last !== undefined && receivedFromUs <= last.toUs) last.toUs = Math.max(last.toUs, receivedToUs + LATER_US);
    else ranges.push({ fromUs: receivedFromUs, toUs: receivedToUs + LATER_US });
  }
  const last = ranges.at(-1);
  if (last !== undefined) last.toUs = Infinity;
  return ranges;
}

/** The oldest batches that can be read at once: `rowsMax` rows of them, or one. */
export function nextWindow(batches: readonly ShippedBatch[], rowsMax: number): Window | undefined {
  const sorted = batches.toSorted((a, b) => a.receivedFromUs - b.receivedFromUs);
  const [first] = sorted;
  if (first === undefined) return undefined;
  const tokens = [first.token];
  let rows = first.rows;
  let toUs = first.receivedToUs;
  for (const batch of sorted.slice(1)) {
    if (rows + batch.rows > rowsMax || batch.receivedFromUs > toUs + GAP_US) break;
    tokens.push(batch.token);
    rows += batch.rows;
    toUs = Math.max(toUs, batch.receivedToUs);
  }
  const seconds = Math.max(PACE_SECONDS_MIN, (toUs - first.receivedFromUs) / 1e6);
  return { fromUs: first.receivedFromUs, toUs, tokens, rowsPerSecond: rows / seconds };
}

/** A window that may hold more than its batches do is read in parts: each of about `rowsMax` rows. */
export async function partsOfWindow(
  client: ClickHouseClient,
  database: string,
  { fromUs, toUs }: Window,
  rowsMax: number,
  signal: AbortSignal,
): Promise<ReceivedRange[]> {
  if (toUs - fromUs <= SHORT_WINDOW_US) return [{ fromUs, toUs }];
  const query = `SELECT intDiv(toUnixTimestamp64Micro(received_at), ${PART_US}) AS part, toInt64(count()) FROM ${tableName(database, 'events')}
    WHERE ${receivedIn([{ fromUs, toUs }])} GROUP BY part ORDER BY part FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const parts: { fromUs: number; toUs: number; rows: number }[] = [];
  while (!reader.done) {
    const start = reader.int64() * PART_US;
    const rows = reader.int64();
    const last = parts.at(-1);
    if (last !== undefined && last.rows + rows <= rowsMax) {
      last.toUs = start + PART_US - 1;
      last.rows += rows;
    } else {
      parts.push({ fromUs: Math.max(start, fromUs), toUs: start + PART_US - 1, rows });
    }
  }
  return parts.map((part) => ({ fromUs: part.fromUs, toUs: Math.min(part.toUs, toUs) }));
}

/** One part of a window that is read in parts is at least this long, µs. */
const PART_US = 100_000;
/** What a busy second or two of all instances holds fits into memory anyway. */
const SHORT_WINDOW_US = 2_000_000;

/** Whether there are no more rows than that in these ranges. */
export async function areAtMost(
  client: ClickHouseClient,
  database: string,
  ranges: readonly ReceivedRange[],
  rowsMax: number,
  signal: AbortSignal,
): Promise<boolean> {
  const query = `SELECT toInt64(count()) FROM (SELECT 1 FROM ${tableName(database, 'events')}
    WHERE ${receivedIn(ranges)} LIMIT ${rowsMax + 1}) FORMAT RowBinary`;
  return new BinaryReader(await readBinary(client, query, signal)).int64() <= rowsMax;
}

/** SQL that is true of rows that were received in one of the ranges. */
export function receivedIn(ranges: readonly ReceivedRange[]): string {
  const time = (us: number): string => `fromUnixTimestamp64Micro(${us}, 'UTC')`;
  const conditions = ranges.map(({ fromUs, toUs }) =>
    toUs === Infinity
      ? `received_at >= ${time(fromUs)}`
      : `received_at >= ${time(fromUs)} AND received_at <= ${time(toUs)}`,
  );
  return conditions.length === 1 ? `${conditions[0]}` : `(${conditions.join(' OR ')})`;
}
