import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { DELTA_COLUMNS, type Deltas, type GenerationOf, type Hour } from './deltas.js';
import type { Fence } from './fence.js';
import { LEVEL } from './level.js';
import { quoteBytes, quoteText, READ_SETTINGS } from './rows.js';
import { oneBlock } from './user-numbers.js';

/**
 * A commit: one INSERT of one block into one unpartitioned table, which is there as a whole or not at all, and only while
 * nobody else has committed (docs/decisions/0008-rollups.md). Whether one whose answer was lost took place, the count of
 * commits says.
 */

/** What a commit writes: `select` gives rows of COLUMNS, and reads `input` where there is one. */
export interface CommitStatement {
  readonly select: string;
  /** At most so many. */
  readonly rows: number;
  /** RowBinary. */
  readonly input?: Buffer;
}

const COLUMNS = 'level, event_name, channel, bucket, generation, total, uniques, commits, users, entries';

const { minute: MINUTE, hour: HOUR, day: DAY, fiveDays: FIVE_DAYS } = LEVEL;

/** The branches of a UNION must have the very types of the table. */
const NONE = 'toInt64(0)';
const NO_COMMIT = 'toUInt64(0)';
const NO_ENTRIES = 'emptyArrayUInt64()';
const NO_MINUTES = `[]::Array(Tuple(UInt32, Array(UInt64)))`;
/** Hours that a statement names one by one; of more, it reads all between the first and the last. */
const HOURS_NAMED_MAX = 2_000;

/**
 * The cells that the delta of an hour goes into: level, event name, channel, bucket, generation. Those of five days are not made
 * anew with a day: they stay in the first generation, and whoever asks for a rebuilt day does not read them.
 */
function cellsOfHour(name: string, generation: string): string[] {
  return [`''`, 'channel'].flatMap((channel) => [
    `(${HOUR}, ${name}, ${channel}, bucket, ${generation})`,
    `(${DAY}, ${name}, ${channel}, intDiv(bucket, 24), ${generation})`,
    `(${FIVE_DAYS}, ${name}, ${channel}, intDiv(bucket, 120), toUInt64(0))`,
  ]);
}

/** SQL that is true of the cells of these hours, and may be of others. */
function isAmong(hours: readonly Hour[]): string {
  if (hours.length > HOURS_NAMED_MAX) {
    let [least, most] = [Infinity, -Infinity];
    for (const { hour } of hours) [least, most] = [Math.min(least, hour), Math.max(most, hour)];
    return `bucket BETWEEN ${least} AND ${most}`;
  }
  // As numbers, in bytes: a thousand tuples in SQL take longer to parse than the rest of the statement takes to run.
  const names = new Map([['', 0]]);
  const channels = new Map([['', 0]]);
  const keys = new Set<number>();
  for (const { eventName, channel, hour } of hours) {
    const [name, of] = [numberOf(names, eventName), numberOf(channels, channel)];
    for (const pair of [0, name, of * 2 ** 16, of * 2 ** 16 + name]) keys.add(hour * 2 ** 32 + pair);
  }
  const words = Uint32Array.from([...keys].flatMap((key) => [key % 2 ** 32, Math.floor(key / 2 ** 32)]));
  const list = (of: ReadonlyMap<string, number>): string => `[${[...of.keys()].map(quoteText).join(', ')}]`;
  return `(event_name, channel, bucket) IN (
    SELECT arrayElement(${list(names)}, bitAnd(key, 65535) + 1), arrayElement(${list(channels)}, bitAnd(bitShiftRight(key, 16), 65535) + 1),
      toUInt32(bitShiftRight(key, 32))
    FROM (SELECT reinterpretAsUInt64(substring(${quoteBytes(words)}, number * 8 + 1, 8)) AS key FROM numbers(${keys.size})))`;
}

/** The number of a text, which is given to it where it has none: at most HOURS_NAMED_MAX. */
function numberOf(numbers: Map<string, number>, text: string): number {
  let number = numbers.get(text);
  if (number === undefined) {
    number = numbers.size;
    numbers.set(text, number);
  }
  return number;
}

/** SQL of the row that counts a commit, with COLUMNS. */
export function commitRow(fence: Fence): string {
  return `SELECT ${LEVEL.commits}, ${quoteText(fence.roller)}, '', toUInt32(0), toUInt64(0), ${NONE}, ${NONE}, toUInt64(${fence.commits + 1}),
    bitmapBuild(emptyArrayUInt32()), ${NO_ENTRIES}`;
}

/** The rows of one commit. `allNames`: whether its events are new to the cells of all event names as well. */
export function commitStatement(
  database: string,
  deltas: Deltas,
  generationOf: GenerationOf,
  fence: Fence,
  allNames: boolean,
): CommitStatement {
  const { minuteRows, hours, bytes } = deltas.encode(generationOf);
  const cells = [...cellsOfHour('event_name', 'generation'), ...(allNames ? cellsOfHour(`''`, 'all_generation') : [])];
  // What is added (src = 1) meets what the hours have (src = 0): uniques is how many users are new to an hour. Bitmaps are built once
  // for all cells they go into; sorted, several times as fast. The minutes of an hour pass through as one, as a cell of level MINUTE with
  // the hour for its bucket, and become cells behind the GROUP BY: a bitmap and an array for each of them in it would be half of the work.
  const select = `SELECT * FROM (
      SELECT level, event_name, channel, if(level = ${MINUTE}, tupleElement(minute, 1), bucket), generation,
        if(level = ${MINUTE}, toInt64(length(tupleElement(minute, 2))), total), uniques, ${NO_COMMIT},
        if(level = ${MINUTE}, bitmapBuild(arraySort(CAST(tupleElement(minute, 2), 'Array(UInt32)'))), users), tupleElement(minute, 2)
      FROM (
        SELECT cell.1 AS level, cell.2 AS event_name, cell.3 AS channel, cell.4 AS bucket, cell.5 AS generation, sum(new_total) AS total,
          if(level = ${HOUR}, toInt64(bitmapAndnotCardinality(groupBitmapMergeStateIf(new_users, src = 1), groupBitmapMergeStateIf(new_users, src = 0))), ${NONE}) AS uniques,
          groupBitmapMergeStateIf(new_users, src = 1) AS users, groupArrayArray(new_minutes) AS minutes
        FROM (
          SELECT cell, new_total, new_users, new_minutes, 1 AS src FROM (
            SELECT *, CAST(arrayFlatten(entries), 'Array(UInt32)') AS uids, toInt64(length(uids)) AS new_total, bitmapBuild(arraySort(uids)) AS new_users
            FROM input(${quoteText(DELTA_COLUMNS)}))
          ARRAY JOIN [(${MINUTE}, event_name, channel, bucket, generation), ${cells.join(', ')}] AS cell,
            arrayResize([arrayZip(minutes, entries)], ${cells.length + 1}) AS new_minutes
          UNION ALL
          SELECT (level, event_name::String, channel::String, bucket, generation), ${NONE}, users, ${NO_MINUTES}, 0
          FROM ${tableName(database, 'rollup')} WHERE level = ${HOUR} AND ${isAmong(hours)}
        )
        GROUP BY cell HAVING max(src) = 1
      )
      ARRAY JOIN if(level = ${MINUTE}, minutes, [(toUInt32(0), ${NO_ENTRIES})]) AS minute
      UNION ALL ${commitRow(fence)}
    ) WHERE ${fence.condition()}`;
  return { select, rows: minuteRows + hours.length * (cells.length + 1) + 1, input: bytes };
}

/** Runs a statement that carries the fence's next commit until it is known to have taken place. */
export async function commit(
  client: ClickHouseClient,
  database: string,
  fence: Fence,
  { select, rows, input }: CommitStatement,
  signal: AbortSignal,
): Promise<void> {
  const next = fence.commits + 1;
  const body = input === undefined ? [Buffer.from(select)] : [Buffer.from(`${select}\nFORMAT RowBinary\n`), input];
  try {
    const { stream } = await client.exec({
      // The rest of the statement comes in the body, before what it reads: an address is of bounded length.
      query: `INSERT INTO ${tableName(database, 'rollup')} (${COLUMNS})`,
      values: Readable.from(body, { objectMode: false }),
      abort_signal: signal,
      clickhouse_settings: {
        ...READ_SETTINGS,
        ...oneBlock(rows),
        input_format_parallel_parsing: 0,
        // Each key is there once.
        optimize_on_insert: 0,
        insert_deduplication_token: `commit-${next}`,
      },
    });
    await finished(stream.resume());
  } catch (error) {
    // Refused, or done without our knowing: the caller tries again, and finds out by the count.
    const { mine } = await fence.read();
    if (mine !== next) throw error;
  }
  const { commits, mine } = await fence.read();
  if (commits !== next || mine !== next) fence.broken();
  fence.commits = next;
}
