import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from './client.js';
import { readSchema } from './schema-file.js';

/**
 * Deletes what is older than retention keeps: raw rows and rollups of a UTC day go together. The ledger (`segments`,
 * `rolled_segments`) stays: the proof that every event was stored does not end with the event.
 *
 * Partitions that lie wholly before the edge are dropped, which costs nothing. Of the one that the edge runs through, rows are masked
 * (DELETE FROM): a day of 4 M rows in a month takes 0.1 s of CPU so, 1.3 s by ALTER … DELETE, which writes the whole month anew.
 * Their space comes back when ClickHouse merges the part, and at the latest with the partition.
 *
 * May run in several instances at once, and again at any time: a partition that is gone is dropped again without effect, rows
 * that are masked are not found any more. What still runs from before is not begun a second time.
 */

export interface Expired {
  readonly droppedPartitions: readonly string[];
  /** Tables in which rows were deleted. */
  readonly deletedFrom: readonly string[];
  /** Tables that were left alone: a deletion is under way in them, or (`events`) they are Distributed. */
  readonly left: readonly string[];
}

const MINUTES_A_DAY = 1_440;
const HOURS_A_DAY = 24;
const DAYS_A_SPAN = 5;
/** The level of `rollup` that says which generation of a day counts. */
const GENERATIONS = 5;
/** Of the exceptions that retention makes; the roller's own are 1 or large. */
const RETENTION_REQUEST = 2;
const DAY_S = 86_400;

/** `edgeDay`: the first day that is kept, in days since 1970. */
export async function deleteExpired(client: ClickHouseClient, database: string, edgeDay: number): Promise<Expired> {
  const left = await tablesUnderChange(client, database);
  const droppedPartitions: string[] = [];
  const deletedFrom: string[] = [];
  const deleteRows = async (table: string, where: string, partition?: string): Promise<void> => {
    const name = tableName(database, table);
    const inPartition = partition === undefined ? '' : `_partition_id = '${partition}' AND `;
    // A DELETE visits every part, and is remembered, also where it finds nothing.
    const [found] = await rowsOf(client, `SELECT 1 FROM ${name} WHERE ${inPartition}(${where}) LIMIT 1`);
    if (found === undefined) return;
    const scope = partition === undefined ? '' : `IN PARTITION ID '${partition}'`;
    await command(client, `DELETE FROM ${name} ${scope} WHERE ${where}`);
    deletedFrom.push(table);
  };

  const { engine, partitionKey } = await eventsTable(client, database);
  const isDistributed = engine === 'Distributed';
  if (isDistributed) left.add('events');
  if (!left.has('events')) {
    const edge = `toDateTime64(${edgeDay * DAY_S}, 3, 'UTC')`;
    const isOurs = partitionKey === partitionKeyOfSchema();
    if (isOurs) droppedPartitions.push(...(await dropPartitions(client, database, edge, partitionKey)));
    const partition = isOurs ? await partitionOf(client, edge, partitionKey) : undefined;
    await deleteRows('events', `ts < ${edge}`, partition);
  }
  const conditions = {
    rollup: [MINUTES_A_DAY, HOURS_A_DAY, 1, 1 / DAYS_A_SPAN]
      .map((buckets, index) => `(level = ${index + 1} AND bucket < ${Math.floor(edgeDay * buckets)})`)
      .concat(`(level = ${GENERATIONS} AND bucket < ${edgeDay})`)
      .join(' OR '),
    rollup_identities: `key < ${BigInt(edgeDay * MINUTES_A_DAY) << 32n}`,
    rollup_exceptions: `day < ${edgeDay} AND NOT (day = ${edgeDay - 1} AND request = ${RETENTION_REQUEST})`,
  };
  await spoilSpan(client, database, edgeDay);
  for (const [table, where] of Object.entries(conditions)) if (!left.has(table)) await deleteRows(table, where);
  return { droppedPartitions, deletedFrom, left: [...left] };
}

/**
 * The cells of five days that the edge runs through still hold the days before it, which nobody asks for while the edge stays. Should
 * retention be lengthened, they must not be read: a day of theirs counts as rebuilt, in a generation without cells.
 */
async function spoilSpan(client: ClickHouseClient, database: string, edgeDay: number): Promise<void> {
  if (edgeDay % DAYS_A_SPAN === 0) return;
  const exceptions = tableName(database, 'rollup_exceptions');
  await command(
    client,
    `INSERT INTO ${exceptions} (event_name, day, request, reason, done, generation)
     SELECT DISTINCT event_name, ${edgeDay - 1}, ${RETENTION_REQUEST}, 'retention', 1, 1 FROM ${tableName(database, 'rollup')}
     WHERE level = 4 AND bucket = ${Math.floor(edgeDay / DAYS_A_SPAN)}
       AND event_name NOT IN (SELECT event_name FROM ${exceptions} WHERE day = ${edgeDay - 1} AND request = ${RETENTION_REQUEST})`,
  );
}

/** Tables in which a deletion, or another mutation, has not ended. */
async function tablesUnderChange(client: ClickHouseClient, database: string): Promise<Set<string>> {
  const rows = await rowsOf(
    client,
    `SELECT DISTINCT table FROM system.mutations
     WHERE database = {database:String} AND NOT is_done
       AND table IN ('events', 'rollup', 'rollup_identities', 'rollup_exceptions')`,
    { database },
  );
  return new Set(rows.map(([table]) => String(table)));
}

async function eventsTable(
  client: ClickHouseClient,
  database: string,
): Promise<{ engine: string; partitionKey: string }> {
  const [row] = await rowsOf(
    client,
    `SELECT engine, partition_key FROM system.tables WHERE database = {database:String} AND name = 'events'`,
    { database },
  );
  return { engine: String(row?.[0]), partitionKey: String(row?.[1]) };
}

/**
 * The expression that schema.sql partitions by. It grows with `ts`, and only of it is that known: under another key, of the
 * operator's own, rows are deleted and no partition is dropped.
 */
function partitionKeyOfSchema(): string {
  for (const { up } of readSchema().versions) {
    for (const statement of up) {
      const key = statement.includes('.events\n') ? /^PARTITION BY (.+)$/m.exec(statement)?.[1] : undefined;
      if (key !== undefined) return key;
    }
  }
  throw new Error('schema.sql does not say how events is partitioned');
}

/** A partition with a lower key than the edge's has no row from the edge on, now or ever. */
async function dropPartitions(
  client: ClickHouseClient,
  database: string,
  edge: string,
  key: string,
): Promise<string[]> {
  const rows = await rowsOf(
    client,
    `SELECT DISTINCT partition_id FROM system.parts
     WHERE database = {database:String} AND table = 'events' AND active
       AND toUInt32(partition) < (SELECT ${key} FROM (SELECT ${edge} AS ts))
     ORDER BY partition_id`,
    { database },
  );
  const ids = rows.map(([id]) => String(id));
  for (const id of ids) await command(client, `ALTER TABLE ${tableName(database, 'events')} DROP PARTITION ID '${id}'`);
  return ids;
}

async function partitionOf(client: ClickHouseClient, edge: string, key: string): Promise<string> {
  const [row] = await rowsOf(client, `SELECT toString(${key}) FROM (SELECT ${edge} AS ts)`);
  return String(row?.[0]);
}

async function command(client: ClickHouseClient, query: string): Promise<void> {
  await client.command({
    query,
    clickhouse_settings: {
      wait_end_of_query: 1,
      lightweight_deletes_sync: '1',
      // The server's limit is a guard against a slip of the hand; nobody is asked here.
      max_partition_size_to_drop: '0',
    },
  });
}

async function rowsOf(
  client: ClickHouseClient,
  query: string,
  parameters: Readonly<Record<string, unknown>> = {},
): Promise<readonly (readonly (string | number)[])[]> {
  const result = await client.query({ query, query_params: { ...parameters }, format: 'JSONCompactEachRow' });
  return result.json<readonly (string | number)[]>();
}
