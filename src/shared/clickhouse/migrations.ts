import type { ClickHouseClient } from '@clickhouse/client';
import type { Logger } from 'pino';
import { quoteIdentifier, tableName } from './client.js';
import { forDatabase, readSchema, type Schema } from './schema-file.js';

/**
 * Brings a database to the version of schema.sql, and one version back.
 *
 * ClickHouse has no transactions and no lock that dies with its holder, so none is used: every statement is idempotent, two
 * instances may run the same section at once, and a step that died half-way is run again. A step is noted after its
 * statements; a note that is missing costs a repetition, and two notes of one step mean the same as one.
 * The newest note of a version counts, by the clock of the ClickHouse server alone.
 */

export interface MigrationState {
  readonly version: number;
  readonly name: string;
  /** Undefined where the version is not applied. ISO 8601, UTC. */
  readonly appliedAt: string | undefined;
}

export interface MigrationStatus {
  /** The highest applied version; 0 where there is nothing yet. */
  readonly current: number;
  /** The highest version that this program knows. */
  readonly latest: number;
  readonly versions: readonly MigrationState[];
}

/** The database was made by a newer release: waiting does not help. */
export class NewerSchemaError extends Error {}

type MigrationLog = Pick<Logger, 'info'>;

/** Creates the database where it is missing and applies every version above the current one. */
export async function migrateUp(
  client: ClickHouseClient,
  database: string,
  log: MigrationLog,
  schema: Schema = readSchema(),
): Promise<MigrationStatus> {
  await run(client, `create database ${database}`, `CREATE DATABASE IF NOT EXISTS ${quoteIdentifier(database)}`);
  for (const statement of schema.bookkeeping) {
    await run(client, 'create the bookkeeping of versions', forDatabase(statement, database));
  }
  const before = await migrationStatus(client, database, schema);
  refuseNewer(before, database);
  for (const { version, name, up } of schema.versions) {
    if (version <= before.current) continue;
    for (const statement of up) await run(client, `apply schema version ${version}`, forDatabase(statement, database));
    await note(client, database, version, name, true);
    log.info({ database, version, name }, 'schema version applied');
  }
  return migrationStatus(client, database, schema);
}

/** Takes the highest applied version back, with the data in its tables. Does nothing where none is applied. */
export async function migrateDown(
  client: ClickHouseClient,
  database: string,
  log: MigrationLog,
  schema: Schema = readSchema(),
): Promise<MigrationStatus> {
  const before = await migrationStatus(client, database, schema);
  refuseNewer(before, database);
  const step = schema.versions[before.current - 1];
  if (step === undefined) return before;
  for (const statement of step.down) {
    await run(client, `take back schema version ${step.version}`, forDatabase(statement, database));
  }
  await note(client, database, step.version, step.name, false);
  log.info({ database, version: step.version, name: step.name }, 'schema version taken back');
  return migrationStatus(client, database, schema);
}

/** What is applied. Changes nothing, and works on a database that does not exist yet. */
export async function migrationStatus(
  client: ClickHouseClient,
  database: string,
  schema: Schema = readSchema(),
): Promise<MigrationStatus> {
  const applied = new Map<number, AppliedRow>();
  for (const row of await readApplied(client, database)) applied.set(row.version, row);
  return {
    current: Math.max(0, ...applied.keys()),
    latest: schema.versions.length,
    versions: [
      ...schema.versions.map(({ version, name }) => ({ version, name, appliedAt: applied.get(version)?.at })),
      ...[...applied.values()]
        .filter((row) => row.version > schema.versions.length)
        .map((row) => ({ version: row.version, name: row.name, appliedAt: row.at })),
    ],
  };
}

interface AppliedRow {
  readonly version: number;
  readonly name: string;
  readonly at: string;
}

async function readApplied(client: ClickHouseClient, database: string): Promise<AppliedRow[]> {
  const found = await client.query({
    query: `SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_migrations'`,
    query_params: { database },
    format: 'TabSeparated',
  });
  if ((await found.text()).trim() === '0') return [];
  const result = await client.query({
    query: `
      SELECT version, argMax(name, applied_at) AS name, formatDateTime(max(applied_at), '%FT%TZ', 'UTC') AS at
      FROM ${tableName(database, 'schema_migrations')}
      GROUP BY version
      HAVING argMax(applied, applied_at)
      ORDER BY version`,
    format: 'JSONEachRow',
  });
  return result.json<AppliedRow>();
}

function refuseNewer({ current, latest }: MigrationStatus, database: string): void {
  if (current <= latest) return;
  throw new NewerSchemaError(
    `database ${database} is at schema version ${current}, this release of Penstock knows versions up to ${latest}: ` +
      `run the release that made it, or take the schema back with that release's "penstock migrate down"`,
  );
}

async function note(
  client: ClickHouseClient,
  database: string,
  version: number,
  name: string,
  applied: boolean,
): Promise<void> {
  const query = `
    INSERT INTO ${tableName(database, 'schema_migrations')} (version, name, applied)
    SELECT {version:UInt32}, {name:String}, {applied:Bool}`;
  await run(client, `note schema version ${version}`, query, { version, name, applied });
}

async function run(
  client: ClickHouseClient,
  what: string,
  query: string,
  parameters: Record<string, unknown> = {},
): Promise<void> {
  try {
    await client.command({
      query,
      query_params: parameters,
      // DDL answers when it is done, also where a user's profile makes it asynchronous.
      clickhouse_settings: { wait_end_of_query: 1, async_insert: 0 },
    });
  } catch (error) {
    throw new Error(`ClickHouse could not ${what}`, { cause: error });
  }
}
