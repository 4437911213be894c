import type { ClickHouseClient } from '@clickhouse/client';
import { EVENT_COLUMNS } from '../event-columns.js';

/**
 * Compares the events table with what the rest of the program takes for granted: what the encoder writes, what makes counting
 * exact, and that a confirmed INSERT is on disk. Columns, codecs and settings beyond that are the operator's own.
 */

/** What the encoder writes. */
const COLUMN_TYPES: Readonly<Record<(typeof EVENT_COLUMNS)[number], string>> = {
  event_id: 'UUID',
  event_name: 'String',
  channel: 'LowCardinality(String)',
  user_id: 'String',
  ts: "DateTime64(3, 'UTC')",
  campaign_id: 'String',
  tags: 'Array(String)',
  metadata: 'String',
  received_at: "DateTime64(6, 'UTC')",
};

/** The identity of an event; ReplacingMergeTree keeps one row of each. */
const IDENTITY = ['event_name', 'ts', 'event_id'];

/** Without these an INSERT is confirmed before it is on disk, and the log's only other copy is deleted. */
const SYNC_SETTINGS = ['fsync_after_insert', 'fsync_part_directory'];

const REPLACING_ENGINES = new Set(['ReplacingMergeTree', 'ReplicatedReplacingMergeTree', 'SharedReplacingMergeTree']);

interface TableRow {
  readonly engine: string;
  readonly engine_full: string;
  readonly partition_key: string;
  readonly sorting_key: string;
}

/** Everything that is wrong with the events table, each fault a sentence; an empty list means all is well. */
export async function checkSchema(client: ClickHouseClient, database: string): Promise<string[]> {
  const events = await readTable(client, database, 'events');
  if (events === undefined) return [`${database}.events does not exist: run "penstock migrate up"`];
  const faults = await columnFaults(client, database);
  if (events.engine !== 'Distributed')
    return [...faults, ...(await storageFaults(client, `${database}.events`, events))];
  // The cluster form of schema.sql: the rows are in events_local, of which this server has one shard.
  const local = await readTable(client, database, 'events_local');
  if (local === undefined)
    return [...faults, `${database}.events is Distributed, but there is no ${database}.events_local`];
  return [...faults, ...(await storageFaults(client, `${database}.events_local`, local))];
}

async function columnFaults(client: ClickHouseClient, database: string): Promise<string[]> {
  const result = await client.query({
    query: `SELECT name, type, default_kind FROM system.columns WHERE database = {database:String} AND table = 'events'`,
    query_params: { database },
    format: 'JSONEachRow',
  });
  const types = new Map<string, string>();
  const computed = new Set<string>();
  for (const row of await result.json<{ name: string; type: string; default_kind: string }>()) {
    types.set(row.name, row.type);
    if (row.default_kind === 'MATERIALIZED' || row.default_kind === 'ALIAS') computed.add(row.name);
  }
  const faults: string[] = [];
  for (const name of EVENT_COLUMNS) {
    const expected = COLUMN_TYPES[name];
    const type = types.get(name);
    if (type === undefined) faults.push(`${database}.events has no column ${name}`);
    else if (type !== expected) faults.push(`${database}.events: column ${name} is ${type}, expected ${expected}`);
    else if (computed.has(name)) faults.push(`${database}.events: column ${name} is computed and takes no values`);
  }
  return faults;
}

async function storageFaults(client: ClickHouseClient, table: string, row: TableRow): Promise<string[]> {
  const faults: string[] = [];
  if (!REPLACING_ENGINES.has(row.engine)) {
    faults.push(`${table} has the engine ${row.engine}, expected ReplacingMergeTree: duplicates would count`);
  } else if (!/MergeTree\((?:[^()]*, )?received_at\)/.test(row.engine_full)) {
    faults.push(`${table} does not keep the version received last: expected ReplacingMergeTree(received_at)`);
  }
  if (row.sorting_key !== IDENTITY.join(', ')) {
    faults.push(
      `${table} is sorted by (${row.sorting_key}), expected (${IDENTITY.join(', ')}): the identity of an event`,
    );
  }
  for (const column of EVENT_COLUMNS) {
    if (IDENTITY.includes(column) || !new RegExp(`\\b${column}\\b`).test(row.partition_key)) continue;
    faults.push(
      `${table} is partitioned by ${column}, which is not part of an event's identity: duplicates would count`,
    );
  }
  const defaults = await mergeTreeDefaults(client, row.engine);
  for (const setting of SYNC_SETTINGS) {
    const own = new RegExp(`\\b${setting} = (\\w+)`).exec(row.engine_full)?.[1];
    if (isOn(own ?? defaults.get(setting))) continue;
    faults.push(`${table} lacks the setting ${setting} = 1: a confirmed INSERT might not survive a power cut`);
  }
  return faults;
}

async function readTable(client: ClickHouseClient, database: string, table: string): Promise<TableRow | undefined> {
  const result = await client.query({
    query: `
      SELECT engine, engine_full, partition_key, sorting_key
      FROM system.tables WHERE database = {database:String} AND name = {table:String}`,
    query_params: { database, table },
    format: 'JSONEachRow',
  });
  const [row] = await result.json<TableRow>();
  return row;
}

/** The server's own settings for tables that do not say otherwise. */
async function mergeTreeDefaults(client: ClickHouseClient, engine: string): Promise<Map<string, string>> {
  const source = engine.startsWith('Replicated') ? 'replicated_merge_tree_settings' : 'merge_tree_settings';
  const result = await client.query({
    query: `SELECT name, value FROM system.${source} WHERE name IN {names:Array(String)}`,
    query_params: { names: SYNC_SETTINGS },
    format: 'JSONEachRow',
  });
  const values = new Map<string, string>();
  for (const row of await result.json<{ name: string; value: string }>()) values.set(row.name, row.value);
  return values;
}

function isOn(value: string | undefined): boolean {
  return value === '1' || value === 'true';
}
