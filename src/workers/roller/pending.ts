import type { ClickHouseClient } from '@clickhouse/client';
import type { ShippedBatch } from '../../shared/channel.js';
import { tableName } from '../../shared/clickhouse/client.js';
import { BinaryReader, readBinary } from './rows.js';

/** Batches of the ledger whose rows are to be rolled, and the windows of time in which they were received. */

/** What one commit reads: rows received from `fromUs` up to `toUs`, both included. */
export interface Window {
  readonly fromUs: number;
  readonly toUs: number;
  /** Batches that lie in it. */
  readonly tokens: readonly string[];
}

/** Rows of the batches that are read at once. */
const WINDOW_ROWS = 500_000;
/** Batches that are further apart than this, in µs, are not read at once: other instances' rows may lie between. */
const GAP_US = 1_000_000;
/** An intent without completion for so long: its instance may not come back. */
const ORPHAN_SECONDS = 300;
/** How far back is looked while nothing suggests more; longer than ORPHAN_SECONDS. */
const RECENT_SECONDS = 900;

/** Batches that are not rolled: of the last minutes, or of all times. */
export async function readPending(
  client: ClickHouseClient,
  database: string,
  recentOnly: boolean,
  signal: AbortSignal,
): Promise<ShippedBatch[]> {
  const since = (seconds: number): string => (recentOnly ? `at > now64(6) - INTERVAL ${seconds} SECOND` : '1');
  const query = `SELECT token, max(rows), toInt64(min(toUnixTimestamp64Micro(received_from))), toInt64(max(toUnixTimestamp64Micro(received_to)))
    FROM ${tableName(database, 'segments')}
    WHERE (state = 'completion' OR (state = 'intent' AND at < now64(6) - INTERVAL ${ORPHAN_SECONDS} SECOND))
      AND ${since(RECENT_SECONDS)} AND sipHash128(token) NOT IN (
        SELECT sipHash128(token) FROM ${tableName(database, 'rolled_segments')} WHERE ${since(2 * RECENT_SECONDS)})
    GROUP BY token FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const batches: ShippedBatch[] = [];
  while (!reader.done) {
    const token = reader.string();
    const rows = reader.uint32();
    const receivedFromUs = reader.int64();
    const receivedToUs = reader.int64();
    // Noted by a version that did not say when: it may have been at any time.
    const known = receivedToUs > 0;
    batches.push({ token, rows, receivedFromUs, receivedToUs: known ? receivedToUs : Number.MAX_SAFE_INTEGER });
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

/** The oldest batches that can be read at once. */
export function nextWindow(batches: readonly ShippedBatch[]): Window | undefined {
  const sorted = batches.toSorted((a, b) => a.receivedFromUs - b.receivedFromUs);
  const [first] = sorted;
  if (first === undefined) return undefined;
  const tokens = [first.token];
  let rows = first.rows;
  let toUs = first.receivedToUs;
  for (const batch of sorted.slice(1)) {
    if (rows + batch.rows > WINDOW_ROWS || batch.receivedFromUs > toUs + GAP_US) break;
    tokens.push(batch.token);
    rows += batch.rows;
    toUs = Math.max(toUs, batch.receivedToUs);
  }
  return { fromUs: first.receivedFromUs, toUs, tokens };
}

/** A window that may hold more than its batches do is read in parts: each of about WINDOW_ROWS. */
export async function partsOfWindow(
  client: ClickHouseClient,
  database: string,
  { fromUs, toUs }: Window,
  signal: AbortSignal,
): Promise<{ readonly fromUs: number; readonly toUs: number }[]> {
  if (toUs - fromUs <= SHORT_WINDOW_US) return [{ fromUs, toUs }];
  const query = `SELECT intDiv(toUnixTimestamp64Micro(received_at), ${PART_US}) AS part, toInt64(count()) FROM ${tableName(database, 'events')}
    WHERE ${receivedBetween(fromUs, toUs)} GROUP BY part ORDER BY part FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const parts: { fromUs: number; toUs: number; rows: number }[] = [];
  while (!reader.done) {
    const start = reader.int64() * PART_US;
    const rows = reader.int64();
    const last = parts.at(-1);
    if (last !== undefined && last.rows + rows <= WINDOW_ROWS) {
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

export function receivedBetween(fromUs: number, toUs: number): string {
  return `received_at >= fromUnixTimestamp64Micro(${fromUs}, 'UTC') AND received_at <= fromUnixTimestamp64Micro(${toUs}, 'UTC')`;
}
