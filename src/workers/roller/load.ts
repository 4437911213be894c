import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { type Entries, entriesOf, entryOf, type GenerationOf, MINUTE_MS, MINUTES_OF_DAY } from './deltas.js';
import { LEVEL } from './level.js';
import {
  BinaryReader,
  isRemembered,
  quoteText,
  readBinary,
  readRowGroups,
  READ_SETTINGS,
  ROW_GROUP_COLUMNS,
  type RowGroup,
} from './rows.js';
import { NO_NUMBER } from './user-numbers.js';

/**
 * Loading seconds: their raw rows as they count (FINAL) and what the cells say was counted. The difference is what is new, whatever
 * happened before.
 */

/** Unix seconds [from, to) of one event name, or of all. */
export interface SecondRange {
  readonly eventName: string | undefined;
  readonly from: number;
  readonly to: number;
}

/** FINAL decides first; no index on another column may hide the version that counts. */
const FINAL_SETTINGS = {
  ...READ_SETTINGS,
  do_not_merge_across_partitions_select_final: 1 as const,
  use_skip_indexes_if_final: 0 as const,
  max_bytes_before_external_group_by: '0',
};

/** The rows of these seconds, each event once. */
export async function readSeconds(
  client: ClickHouseClient,
  database: string,
  ranges: readonly SecondRange[],
  signal: AbortSignal,
): Promise<RowGroup[]> {
  const conditions = ranges.map(({ eventName, from, to }) =>
    [
      ...(eventName === undefined ? [] : [`event_name = ${quoteText(eventName)}`]),
      `ts >= fromUnixTimestamp64Milli(${from * 1000}, 'UTC')`,
      `ts < fromUnixTimestamp64Milli(${to * 1000}, 'UTC')`,
    ].join(' AND '),
  );
  const query = `SELECT ${ROW_GROUP_COLUMNS} FROM ${tableName(database, 'events')} FINAL
    WHERE (${anyOf(conditions)}) AND ${isRemembered(database)} GROUP BY event_name, channel FORMAT RowBinary`;
  return readRowGroups(await readBinary(client, query, signal, FINAL_SETTINGS));
}

/** What was counted in one minute of one event name and channel, as far as it was asked for. */
export interface CountedCell {
  readonly eventName: string;
  readonly channel: string;
  readonly minute: number;
  readonly entries: Entries;
}

/** What was counted in these seconds, in the generations that count. */
export async function readCells(
  client: ClickHouseClient,
  database: string,
  ranges: readonly SecondRange[],
  generationOf: GenerationOf,
  signal: AbortSignal,
): Promise<CountedCell[]> {
  const query = `SELECT event_name::String, channel::String, bucket, generation, groupArrayArray(${entriesIn(ranges)})
    FROM ${tableName(database, 'rollup')} WHERE level = ${LEVEL.minute} AND (${anyOf(ranges.map(cellCondition))})
    GROUP BY event_name, channel, bucket, generation FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const cells: CountedCell[] = [];
  while (!reader.done) {
    const eventName = reader.string();
    const channel = reader.string();
    const minute = reader.uint32();
    const generation = reader.int64();
    const entries = Array.from({ length: reader.varint() }, () => reader.int64());
    if (generation === generationOf(eventName, Math.floor(minute / MINUTES_OF_DAY))) {
      cells.push({ eventName, channel, minute, entries });
    }
  }
  return cells;
}

/** Minutes that these ranges touch which have a cell, of any generation. */
export async function minutesWithCells(
  client: ClickHouseClient,
  database: string,
  ranges: readonly SecondRange[],
  signal: AbortSignal,
): Promise<{ readonly eventName: string; readonly minute: number }[]> {
  const query = `SELECT DISTINCT event_name::String, bucket FROM ${tableName(database, 'rollup')}
    WHERE level = ${LEVEL.minute} AND (${anyOf(ranges.map(cellCondition))}) FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const minutes: { eventName: string; minute: number }[] = [];
  while (!reader.done) minutes.push({ eventName: reader.string(), minute: reader.uint32() });
  return minutes;
}

/** Rows as cells, by channel and minute; users without a number are left out. */
export function cellsOf(
  groups: readonly RowGroup[],
  uids: readonly Uint32Array[],
): { readonly eventName: string; readonly channel: string; readonly minutes: Map<number, Entries> }[] {
  return groups.map(({ eventName, channel, count, timestamps }, index) => {
    const minutes = new Map<number, Entries>();
    for (let i = 0; i < count; i += 1) {
      const uid = uids[index]?.[i] ?? NO_NUMBER;
      if (uid === NO_NUMBER) continue;
      const timestamp = timestamps[i] ?? 0;
      entriesOf(minutes, Math.floor(timestamp / MINUTE_MS)).push(entryOf(timestamp, uid));
    }
    return { eventName, channel, minutes };
  });
}

/**
 * What has to be added to `counted` to make it `actual`; undefined where something would have to be taken away, which a union
 * cannot do: an event was counted with another user or channel than it has now.
 */
export function difference(actual: Entries, counted: Entries | undefined): Entries | undefined {
  if (counted === undefined || counted.length === 0) return actual;
  const left = new Map<number, number>();
  for (const entry of counted) left.set(entry, (left.get(entry) ?? 0) + 1);
  const added: Entries = [];
  let found = 0;
  for (const entry of actual) {
    const times = left.get(entry) ?? 0;
    if (times === 0) {
      added.push(entry);
    } else {
      left.set(entry, times - 1);
      found += 1;
    }
  }
  return found === counted.length ? added : undefined;
}

/** SQL of the entries that lie in these ranges. */
function entriesIn(ranges: readonly SecondRange[]): string {
  if (ranges.every(({ from, to }) => from % 60 === 0 && to % 60 === 0)) return 'entries';
  const within = ranges.map(({ eventName, from, to }) => {
    const seconds = `at >= ${from} AND at < ${to}`;
    return eventName === undefined ? seconds : `event_name = ${quoteText(eventName)} AND ${seconds}`;
  });
  const times = 'arrayMap(entry -> toInt64(bucket) * 60 + toInt64(bitShiftRight(entry, 32)), entries)';
  return `arrayFilter((entry, at) -> ${anyOf(within)}, entries, ${times})`;
}

function cellCondition({ eventName, from, to }: SecondRange): string {
  const bucket = `bucket >= ${Math.floor(from / 60)} AND bucket < ${Math.ceil(to / 60)}`;
  return eventName === undefined ? bucket : `event_name = ${quoteText(eventName)} AND ${bucket}`;
}

function anyOf(conditions: readonly string[]): string {
  return conditions.map((condition) => `(${condition})`).join(' OR ');
}

/** Seconds of one event name as ranges, neighbours joined. */
export function rangesOf(eventName: string, seconds: Iterable<number>): SecondRange[] {
  const ranges: { eventName: string; from: number; to: number }[] = [];
  for (const second of [...seconds].toSorted((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && last.to === second) last.to = second + 1;
    else ranges.push({ eventName, from: second, to: second + 1 });
  }
  return ranges;
}
