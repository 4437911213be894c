import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { type Entries, type GenerationOf, MINUTES_OF_DAY, secondOfEntry } from './deltas.js';
import { LEVEL } from './level.js';
import { ROW_COLUMNS, type RowMemory, type RowReader } from './row-reader.js';
import { BinaryReader, readBinary, READ_SETTINGS } from '../../shared/clickhouse/binary.js';
import { isRemembered, type RowGroup } from './rows.js';
import type { Selection } from './selection.js';

/**
 * Loading a selection: its raw rows as they count (FINAL) and what the cells say was counted. The difference is what is new, whatever
 * happened before.
 */

/** FINAL decides first; no index on another column may hide the version that counts. */
const FINAL_SETTINGS = {
  ...READ_SETTINGS,
  do_not_merge_across_partitions_select_final: 1 as const,
  use_skip_indexes_if_final: 0 as const,
};

/** The rows of a selection, each event once. */
export async function readRows(
  client: ClickHouseClient,
  database: string,
  selection: Selection,
  { reader, memory }: { readonly reader: RowReader; readonly memory: RowMemory },
  signal: AbortSignal,
): Promise<RowGroup[]> {
  const query = `SELECT ${ROW_COLUMNS} FROM ${tableName(database, 'events')} FINAL
    WHERE ${selection.rows} AND ${isRemembered(database)}`;
  return await reader.read(client, query, memory, signal, FINAL_SETTINGS);
}

/** What was counted in one minute of one event name and channel, as far as it was asked for. */
export interface CountedCell {
  readonly eventName: string;
  readonly channel: string;
  readonly minute: number;
  readonly entries: Entries;
}

/** What was counted of a selection, in the generations that count. */
export async function readCells(
  client: ClickHouseClient,
  database: string,
  selection: Selection,
  generationOf: GenerationOf,
  signal: AbortSignal,
): Promise<CountedCell[]> {
  const query = `SELECT event_name::String, channel::String, bucket, generation, groupArrayArray(${selection.entries})
    FROM ${tableName(database, 'rollup')} WHERE level = ${LEVEL.minute} AND ${selection.cells}
    GROUP BY event_name, channel, bucket, generation FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const cells: CountedCell[] = [];
  while (!reader.done) {
    const eventName = reader.string();
    const channel = reader.string();
    const minute = reader.uint32();
    const generation = reader.int64();
    const entries: number[] = [];
    for (let left = reader.varint(); left > 0; left -= 1) {
      const entry = reader.int64();
      if (selection.has(eventName, secondOfEntry(minute, entry))) entries.push(entry);
    }
    if (generation === generationOf(eventName, Math.floor(minute / MINUTES_OF_DAY))) {
      cells.push({ eventName, channel, minute, entries });
    }
  }
  return cells;
}

/** Minutes that a selection touches which have a cell, of any generation. */
export async function minutesWithCells(
  client: ClickHouseClient,
  database: string,
  selection: Selection,
  signal: AbortSignal,
): Promise<{ readonly eventName: string; readonly minute: number }[]> {
  const query = `SELECT DISTINCT event_name::String, bucket FROM ${tableName(database, 'rollup')}
    WHERE level = ${LEVEL.minute} AND ${selection.cells} FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal));
  const minutes: { eventName: string; minute: number }[] = [];
  while (!reader.done) minutes.push({ eventName: reader.string(), minute: reader.uint32() });
  return minutes;
}

/**
 * What has to be added to `counted` to make it `actual`; undefined where something would have to be taken away, which a union
 * cannot do: an event was counted with another user or channel than it has now.
 */
export function difference(actual: Entries, counted: Entries | undefined): Entries | undefined {
  if (counted === undefined || counted.length === 0) return actual;
  const left = new Map<number, number>();
  for (const entry of counted) left.set(entry, (left.get(entry) ?? 0) + 1);
  const added: number[] = [];
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
