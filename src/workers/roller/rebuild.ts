import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { commit, commitRow, commitStatement } from './commit.js';
import type { CellRows } from './cell-rows.js';
import { chunksOf } from './chunks.js';
import type { Counting } from './counting.js';
import type { DayException, Exceptions } from './exceptions.js';
import type { Fence } from './fence.js';
import { LEVEL } from './level.js';
import { quoteText } from '../../shared/clickhouse/binary.js';

/**
 * A day again from raw rows, under a new generation: for what cannot be added, a version of an event with another user or
 * channel, or a user who is forgotten. Until the last step the day's questions are answered from raw rows.
 */
export interface RebuildOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly signal: AbortSignal;
  readonly fence: Fence;
  readonly counting: Counting;
  readonly cellRows: CellRows;
  readonly exceptions: Exceptions;
}

const HOURS_OF_DAY = 24;
const SECONDS_OF_DAY = 86_400;

/** Rebuilds the oldest day that has an exception. */
export async function rebuildDay(options: RebuildOptions): Promise<void> {
  const { exceptions, fence } = options;
  const day = Math.min(...exceptions.open.map((exception) => exception.day));
  const asked = exceptions.open.filter((exception) => exception.day === day);
  const names = new Set(asked.map(({ eventName }) => eventName).filter((name) => name !== ''));
  // Our own request, so that a roller that was overtaken cannot declare done what we have begun.
  await exceptions.raise(
    [...names].map((eventName) => ({ eventName, day })),
    'rebuilding',
  );
  const met: readonly DayException[] = exceptions.open.filter((exception) => exception.day === day);
  // Commits only grow: no cell of an earlier rebuild has this generation.
  const generation = fence.commits + 1;
  for (const eventName of names) await rebuildName(options, eventName, day, generation);
  await rebuildAllNames(options, day, generation, names);
  exceptions.renew(met, generation);
  await exceptions.resolve(met, generation);
}

async function rebuildName(
  { client, database, signal, fence, counting, cellRows, exceptions }: RebuildOptions,
  eventName: string,
  day: number,
  generation: number,
): Promise<void> {
  const generationOf = (name: string, ofDay: number): number =>
    name === eventName && ofDay === day ? generation : exceptions.generationOf(name, ofDay);
  counting.forgetDay(eventName, day);
  const range = { eventName, from: day * SECONDS_OF_DAY, to: (day + 1) * SECONDS_OF_DAY };
  for (const chunk of await chunksOf(client, database, range, signal)) {
    const deltas = await counting.countRange(chunk.range, generationOf);
    await counting.noteKeys(deltas);
    await commit(client, database, fence, commitStatement(cellRows, deltas, generationOf, fence, false), signal);
  }
}

/** The cells of all event names are the union of those of each. */
async function rebuildAllNames(
  { client, database, signal, fence, exceptions }: RebuildOptions,
  day: number,
  generation: number,
  rebuilt: ReadonlySet<string>,
): Promise<void> {
  const table = tableName(database, 'rollup');
  const generations = exceptions.generationsOf(day);
  for (const name of rebuilt) generations.set(name, generation);
  const names = [...generations.keys()].map(quoteText).join(', ');
  const isCurrent =
    generations.size === 0
      ? 'generation = 0'
      : `generation = transform(event_name::String, [${names}], [${[...generations.values()].join(', ')}]::Array(UInt64), 0::UInt64)`;
  const cells = (level: number, buckets: string): string =>
    `SELECT ${level}, '', channel::String, bucket, toUInt64(${generation}), sum(total), toUInt64(0), groupBitmapMergeState(users), emptyArrayUInt64() FROM ${table}
     WHERE level = ${level} AND event_name != '' AND ${buckets} AND ${isCurrent} GROUP BY channel, bucket`;
  // With the commit that completes them: whoever rolls from now on adds to these cells.
  const current = ['', ...rebuilt].map(
    (name) =>
      `SELECT ${LEVEL.generation}, ${quoteText(name)}, '', toUInt32(${day}), toUInt64(${generation}), toInt64(0), toUInt64(0), bitmapBuild(emptyArrayUInt32()), emptyArrayUInt64()`,
  );
  const hours = `bucket >= ${day * HOURS_OF_DAY} AND bucket < ${(day + 1) * HOURS_OF_DAY}`;
  const select = `SELECT * FROM (
      ${cells(LEVEL.hour, hours)}
      UNION ALL ${cells(LEVEL.day, `bucket = ${day}`)}
      UNION ALL ${current.join('\n      UNION ALL ')}
      UNION ALL ${commitRow(fence)}
    ) WHERE ${fence.condition()}`;
  await commit(client, database, fence, { select, rows: 1_000_000 }, signal);
}
