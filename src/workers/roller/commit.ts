import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { CELL_COLUMNS, CELL_STRUCTURE, type CellRows } from './cell-rows.js';
import type { Deltas, GenerationOf } from './deltas.js';
import type { Fence } from './fence.js';
import { LEVEL } from './level.js';
import { quoteText, READ_SETTINGS } from '../../shared/clickhouse/binary.js';
import { oneBlock } from './user-numbers.js';

/**
 * A commit: one INSERT of one block into one unpartitioned table, which is there as a whole or not at all, and only while
 * nobody else has committed (docs/decisions/0008-rollups.md). Whether one whose answer was lost took place, the count of
 * commits says. Its cells are made here (cell-rows.ts): in SQL, planning the statement took ten times as long as running it.
 */

/** More than a usual step has: those of a backlog, and of a day that is made anew. */
const MANY_ROWS = 20_000;

/** What a commit writes: `select` gives rows of CELL_COLUMNS, and reads `input` where there is one. */
export interface CommitStatement {
  readonly select: string;
  /** At most so many. */
  readonly rows: number;
  /** RowBinary. */
  readonly input?: Buffer;
}

/** SQL of the row that counts a commit, with CELL_COLUMNS. */
export function commitRow(fence: Fence): string {
  return `SELECT ${LEVEL.commits}, ${quoteText(fence.roller)}, '', toUInt32(0), toUInt64(0), toInt64(0), toUInt64(${fence.commits + 1}),
    bitmapBuild(emptyArrayUInt32()), emptyArrayUInt64()`;
}

/** The rows of one commit, made in `cellRows`. `allNames`: whether its events are new to the cells of all event names as well. */
export function commitStatement(
  cellRows: CellRows,
  deltas: Deltas,
  generationOf: GenerationOf,
  fence: Fence,
  allNames: boolean,
): CommitStatement {
  const mark = { roller: fence.roller, number: fence.commits + 1 };
  const { rows, bytes } = cellRows.encode(deltas, generationOf, allNames, mark);
  return {
    select: `SELECT * FROM input(${quoteText(CELL_STRUCTURE)}) WHERE ${fence.condition()}`,
    rows,
    input: bytes,
  };
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
      query: `INSERT INTO ${tableName(database, 'rollup')} (${CELL_COLUMNS})`,
      values: Readable.from(body, { objectMode: false }),
      abort_signal: signal,
      clickhouse_settings: {
        ...READ_SETTINGS,
        ...oneBlock(rows),
        input_format_parallel_parsing: 0,
        // Rows of one key are put together at once where they are many: questions read fewer. Of few, that costs more than when they are merged.
        optimize_on_insert: rows > MANY_ROWS ? 1 : 0,
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
