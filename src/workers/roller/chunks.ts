import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { BinaryReader, readBinary } from '../../shared/clickhouse/binary.js';
import { type SecondRange, selectRange } from './selection.js';

/** A range with so many raw rows, about. */
export interface Chunk {
  readonly range: SecondRange;
  readonly rows: number;
}

const CHUNK_ROWS = 500_000;
/** Seconds of an hour, of a minute, and one. */
const GRAINS = [3_600, 60, 1] as const;

/** The raw rows of a range in pieces that fit into memory; one second is never divided. */
export async function chunksOf(
  client: ClickHouseClient,
  database: string,
  range: SecondRange,
  signal: AbortSignal,
): Promise<Chunk[]> {
  const chunks: { range: SecondRange; rows: number }[] = [];
  const divide = async (part: SecondRange, grain: number): Promise<void> => {
    const seconds = GRAINS[grain] ?? 1;
    for (const { from, to, rows } of await countBy(client, database, part, seconds, signal)) {
      const last = chunks.at(-1);
      if (rows > CHUNK_ROWS && seconds > 1) {
        await divide({ ...part, from, to }, grain + 1);
      } else if (last !== undefined && last.rows + rows <= CHUNK_ROWS) {
        last.range = { ...last.range, to };
        last.rows += rows;
      } else {
        chunks.push({ range: { eventName: range.eventName, from, to }, rows });
      }
    }
  };
  await divide(range, 0);
  return chunks;
}

async function countBy(
  client: ClickHouseClient,
  database: string,
  range: SecondRange,
  seconds: number,
  signal: AbortSignal,
): Promise<{ from: number; to: number; rows: number }[]> {
  const query = `SELECT intDiv(toUnixTimestamp64Milli(ts), ${seconds * 1000}) AS bucket, toInt64(count())
    FROM ${tableName(database, 'events')}
    WHERE ${selectRange(range).rows}
    GROUP BY bucket ORDER BY bucket FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const counts: { from: number; to: number; rows: number }[] = [];
  while (!reader.done) {
    const start = reader.int64() * seconds;
    counts.push({ from: start, to: start + seconds, rows: reader.int64() });
  }
  return counts;
}

export function rowsOf(chunks: readonly Chunk[]): number {
  return chunks.reduce((sum, { rows }) => sum + rows, 0);
}
