import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { MINUTE_MS } from './deltas.js';
import type { MinuteRange } from './load.js';
import { BinaryReader, quoteText, readBinary } from './rows.js';

/** Raw rows of minutes [from, to), about. */
export interface Chunk {
  readonly range: MinuteRange;
  readonly rows: number;
}

const CHUNK_ROWS = 500_000;
const MINUTES_OF_HOUR = 60;

/** The raw rows of some minutes, in pieces that fit into memory; one minute is never divided. */
export async function chunksOf(
  client: ClickHouseClient,
  database: string,
  range: MinuteRange,
  signal: AbortSignal,
): Promise<Chunk[]> {
  const hours = await countBy(client, database, range, MINUTES_OF_HOUR, signal);
  const chunks: { range: MinuteRange; rows: number }[] = [];
  for (const hour of hours) {
    const pieces = hour.rows > CHUNK_ROWS ? await countBy(client, database, { ...range, ...hour }, 1, signal) : [hour];
    for (const { from, to, rows } of pieces) {
      const last = chunks.at(-1);
      if (last !== undefined && last.rows + rows <= CHUNK_ROWS) {
        last.range = { ...last.range, to };
        last.rows += rows;
      } else {
        chunks.push({ range: { eventName: range.eventName, from, to }, rows });
      }
    }
  }
  return chunks;
}

async function countBy(
  client: ClickHouseClient,
  database: string,
  { eventName, from, to }: MinuteRange,
  minutes: number,
  signal: AbortSignal,
): Promise<{ from: number; to: number; rows: number }[]> {
  const name = eventName === undefined ? '' : `event_name = ${quoteText(eventName)} AND`;
  const query = `SELECT intDiv(toUnixTimestamp64Milli(ts), ${minutes * MINUTE_MS}) AS bucket, toInt64(count())
    FROM ${tableName(database, 'events')}
    WHERE ${name} ts >= fromUnixTimestamp64Milli(${from * MINUTE_MS}, 'UTC') AND ts < fromUnixTimestamp64Milli(${to * MINUTE_MS}, 'UTC')
    GROUP BY bucket ORDER BY bucket FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const counts: { from: number; to: number; rows: number }[] = [];
  while (!reader.done) {
    const start = reader.int64() * minutes;
    counts.push({ from: start, to: start + minutes, rows: reader.int64() });
  }
  return counts;
}
