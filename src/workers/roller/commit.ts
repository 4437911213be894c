import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import type { Deltas, GenerationOf } from './deltas.js';
import type { Fence } from './fence.js';
import { LEVEL } from './level.js';
import { quoteText, READ_SETTINGS } from './rows.js';
import { oneBlock } from './user-numbers.js';

/**
 * A commit: one INSERT of one block into one unpartitioned table, which is there as a whole or not at all, and only while
 * nobody else has committed (docs/decisions/0008-rollups.md). Whether one whose answer was lost took place, the count of
 * commits says.
 */

const DELTA_COLUMNS =
  'event_name String, channel String, minute UInt32, generation UInt64, all_generation UInt64, entries Array(UInt64)';

const { minute: MINUTE, hour: HOUR, day: DAY, fiveDays: FIVE_DAYS } = LEVEL;

/** The branches of a UNION must have the very types of the table. */
const NONE = 'toInt64(0)';
const NO_COMMIT = 'toUInt64(0)';
const NO_ENTRIES = 'emptyArrayUInt64()';

/**
 * The cells that the delta of an hour goes into: level, event name, channel, bucket, generation. Those of five days are not made
 * anew with a day: they stay in the first generation, and whoever asks for a rebuilt day does not read them.
 */
function cellsOfHour(name: string, generation: string): string[] {
  return [`''`, 'of_channel'].flatMap((channel) => [
    `(${HOUR}, ${name}, ${channel}, hour, ${generation})`,
    `(${DAY}, ${name}, ${channel}, intDiv(hour, 24), ${generation})`,
    `(${FIVE_DAYS}, ${name}, ${channel}, intDiv(hour, 120), toUInt64(0))`,
  ]);
}

/** SQL of the row that counts a commit, with the columns of `rollup` in order. */
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
): { readonly query: string; readonly rows: number } {
  const table = tableName(database, 'rollup');
  const { rows, bytes } = deltas.encode(generationOf);
  const added = `format(RowBinary, ${quoteText(DELTA_COLUMNS)}, unhex('${bytes.toString('hex')}'))`;
  const cells = [...cellsOfHour('name', 'of_generation'), ...(allNames ? cellsOfHour(`''`, 'of_all_generation') : [])];
  const hours = (columns: string): string =>
    `SELECT event_name AS name, channel AS of_channel, intDiv(minute, 60) AS hour, generation AS of_generation,
       all_generation AS of_all_generation ${columns} FROM ${added} GROUP BY name, of_channel, hour, of_generation, of_all_generation`;
  const uids = 'arrayMap(entry -> toUInt32(bitAnd(entry, 0xffffffff)), entries)';
  // Sorted, a bitmap is built several times as fast.
  const addedHours = hours(
    `, toInt64(sum(length(entries))) AS new_total, bitmapBuild(arraySort(groupArrayArray(${uids}))) AS new_users`,
  );
  // What is added (src = 1) meets what the hours have (src = 0): uniques is how many users are new to an hour.
  const query = `INSERT INTO ${table} (level, event_name, channel, bucket, generation, total, uniques, commits, users, entries)
    SELECT * FROM (
      SELECT ${MINUTE}, event_name, channel, minute, generation, toInt64(length(entries)), ${NONE}, ${NO_COMMIT},
        bitmapBuild(arraySort(${uids})), entries FROM ${added}
      UNION ALL
      SELECT cell.1, cell.2, cell.3, cell.4, cell.5, sum(new_total), if(cell.1 = ${HOUR},
          toInt64(bitmapAndnotCardinality(groupBitmapMergeStateIf(new_users, src = 1), groupBitmapMergeStateIf(new_users, src = 0))), ${NONE}),
        ${NO_COMMIT}, groupBitmapMergeStateIf(new_users, src = 1), ${NO_ENTRIES}
      FROM (
        SELECT cell, new_total, new_users, 1 AS src FROM (${addedHours}) ARRAY JOIN [${cells.join(', ')}] AS cell
        UNION ALL
        SELECT (level, event_name::String, channel::String, bucket, generation), ${NONE}, users, 0 FROM ${table}
        WHERE level = ${HOUR} AND (event_name, channel, bucket) IN (
          SELECT DISTINCT cell.2, cell.3, cell.4 FROM (${hours('')}) ARRAY JOIN [${cells.join(', ')}] AS cell WHERE cell.1 = ${HOUR})
      )
      GROUP BY cell HAVING max(src) = 1
      UNION ALL ${commitRow(fence)}
    ) WHERE ${fence.condition()}`;
  return { query, rows: rows * (1 + cells.length) };
}

/** Runs a statement that carries the fence's next commit until it is known to have taken place. */
export async function commit(
  client: ClickHouseClient,
  fence: Fence,
  statement: { readonly query: string; readonly rows: number },
  signal: AbortSignal,
): Promise<void> {
  const next = fence.commits + 1;
  try {
    await client.command({
      query: statement.query,
      abort_signal: signal,
      clickhouse_settings: {
        ...READ_SETTINGS,
        ...oneBlock(statement.rows),
        insert_deduplication_token: `commit-${next}`,
      },
    });
  } catch (error) {
    // Refused, or done without our knowing: the caller tries again, and finds out by the count.
    const { mine } = await fence.read();
    if (mine !== next) throw error;
  }
  const { commits, mine } = await fence.read();
  if (commits !== next || mine !== next) fence.broken();
  fence.commits = next;
}
