import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { checkHealth, createClickHouse, tableName } from '../../src/shared/clickhouse/client.js';
import { migrateDown, migrateUp, migrationStatus, NewerSchemaError } from '../../src/shared/clickhouse/migrations.js';
import { checkSchema } from '../../src/shared/clickhouse/schema-check.js';
import { forDatabase, readSchema, type Schema } from '../../src/shared/clickhouse/schema-file.js';
import { silentLog, startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(async () => {
  await clickhouse.stop();
});

/** schema.sql and a version above it, for steps that it does not have yet. */
function withNextVersion(): Schema {
  const { bookkeeping, versions } = readSchema();
  const up = ['CREATE TABLE IF NOT EXISTS {database}.next (x String) ENGINE = MergeTree ORDER BY x'];
  const next = { version: versions.length + 1, name: 'next', up, down: ['DROP TABLE IF EXISTS {database}.next SYNC'] };
  return { bookkeeping, versions: [...versions, next] };
}

async function tablesOf(database: string): Promise<string[]> {
  const result = await clickhouse.client.query({
    query: 'SELECT name FROM system.tables WHERE database = {database:String} ORDER BY name',
    query_params: { database },
    format: 'JSONEachRow',
  });
  return (await result.json<{ name: string }>()).map(({ name }) => name);
}

const TABLES = [
  'events',
  'events_deduplicated',
  'forgotten_users',
  'rolled_segments',
  'rollup',
  'rollup_exceptions',
  'rollup_identities',
  'rollup_users',
  'schema_migrations',
  'segments',
];

test('a database goes from nothing to the newest version, and a second time changes nothing', async () => {
  const { client } = clickhouse;
  const database = clickhouse.unusedDatabase();
  const latest = readSchema().versions.length;
  const empty = await migrationStatus(client, database);
  assert.deepEqual([empty.current, empty.latest], [0, latest]);
  assert.ok(empty.versions.every(({ appliedAt }) => appliedAt === undefined));
  assert.deepEqual(await checkSchema(client, database), [
    `${database}.events does not exist: run "penstock migrate up"`,
  ]);

  const first = await migrateUp(client, database, silentLog);
  assert.equal(first.current, latest);
  assert.match(first.versions[0]?.appliedAt ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.deepEqual(await tablesOf(database), TABLES);
  assert.deepEqual(await checkSchema(client, database), []);
  assert.deepEqual(await migrateUp(client, database, silentLog), first);
});

test('down takes back one version and up applies it again', async () => {
  const { client } = clickhouse;
  const database = clickhouse.unusedDatabase();
  const schema = withNextVersion();
  const latest = schema.versions.length;
  await migrateUp(client, database, silentLog, schema);
  assert.ok((await tablesOf(database)).includes('next'));
  assert.equal((await migrateDown(client, database, silentLog, schema)).current, latest - 1);
  assert.deepEqual(await tablesOf(database), TABLES);
  for (let version = latest - 2; version >= 0; version -= 1) {
    assert.equal((await migrateDown(client, database, silentLog, schema)).current, version);
  }
  assert.equal((await migrateDown(client, database, silentLog, schema)).current, 0);
  assert.deepEqual(await tablesOf(database), ['schema_migrations']);
  assert.equal((await migrateUp(client, database, silentLog, schema)).current, latest);
});

test('every statement of schema.sql may run twice', async () => {
  const { client } = clickhouse;
  const database = await clickhouse.newDatabase();
  const { versions } = readSchema();
  const twice = async (statements: readonly string[]): Promise<void> => {
    for (const statement of [...statements, ...statements])
      await client.command({ query: forDatabase(statement, database) });
  };
  for (const { down } of versions.toReversed()) await twice(down);
  for (const { up } of versions) await twice(up);
  assert.deepEqual(await tablesOf(database), TABLES);
});

test('instances that start at the same time all end with the schema in place', async () => {
  const database = clickhouse.unusedDatabase();
  const { client } = clickhouse;
  const all = await Promise.all(Array.from({ length: 6 }, () => migrateUp(client, database, silentLog)));
  for (const status of all) assert.equal(status.current, status.latest);
  assert.deepEqual(await checkSchema(client, database), []);
});

test('a step that died half-way is run again', async () => {
  const { client } = clickhouse;
  const database = clickhouse.unusedDatabase();
  await client.command({ query: `CREATE DATABASE ${database}` });
  const [firstStatement = ''] = readSchema().versions[0]?.up ?? [];
  await client.command({ query: forDatabase(firstStatement, database) });
  assert.equal((await migrationStatus(client, database)).current, 0);
  await migrateUp(client, database, silentLog);
  assert.deepEqual(await checkSchema(client, database), []);
});

test('a database of a newer release is left alone, with a message that says so', async () => {
  const { client } = clickhouse;
  const database = clickhouse.unusedDatabase();
  const schema = withNextVersion();
  const newest = schema.versions.length;
  await migrateUp(client, database, silentLog, schema);
  const message = new RegExp(`${database} is at schema version ${newest}, .* knows versions up to ${newest - 1}`);
  await assert.rejects(migrateUp(client, database, silentLog), NewerSchemaError);
  await assert.rejects(migrateUp(client, database, silentLog), message);
  await assert.rejects(migrateDown(client, database, silentLog), message);
  const { current, latest, versions } = await migrationStatus(client, database);
  assert.deepEqual([current, latest, versions.at(-1)?.name], [newest, newest - 1, 'next']);
});

test('a database may have any name', async () => {
  const { client } = clickhouse;
  const database = `${clickhouse.unusedDatabase()} \`"\\ ç`;
  await migrateUp(client, database, silentLog);
  assert.deepEqual(await checkSchema(client, database), []);
});

test('a statement that ClickHouse refuses stops the step and is named', async () => {
  const { client } = clickhouse;
  const database = clickhouse.unusedDatabase();
  const { bookkeeping } = readSchema();
  const broken = { bookkeeping, versions: [{ version: 1, name: 'broken', up: ['SELECT 1 FROM'], down: ['SELECT 1'] }] };
  await assert.rejects(migrateUp(client, database, silentLog, broken), /could not apply schema version 1/);
  assert.equal((await migrationStatus(client, database, broken)).current, 0);
});

test('the schema check finds what would lose or double events', async () => {
  const { client } = clickhouse;
  const columns = 'event_id UUID, event_name String, user_id String, ts DateTime, received_at DateTime64(6)';
  const sorted = 'ORDER BY (event_name, ts, event_id) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1';
  const cases: readonly [string, RegExp][] = [
    ['ALTER TABLE {database}.events MODIFY SETTING fsync_after_insert = 0', /lacks the setting fsync_after_insert = 1/],
    ['ALTER TABLE {database}.events RESET SETTING fsync_part_directory', /lacks the setting fsync_part_directory = 1/],
    ['ALTER TABLE {database}.events DROP COLUMN tags', /has no column tags/],
    ['ALTER TABLE {database}.events MODIFY COLUMN channel String', /column channel is String, expected LowCard/],
    [`CREATE OR REPLACE TABLE {database}.events (${columns}) ENGINE = MergeTree ${sorted}`, /duplicates would count/],
    [
      `CREATE OR REPLACE TABLE {database}.events (${columns}) ENGINE = ReplacingMergeTree ${sorted}`,
      /does not keep the version received last/,
    ],
    [
      `CREATE OR REPLACE TABLE {database}.events (${columns}) ENGINE = ReplacingMergeTree(received_at) ORDER BY event_id`,
      /is sorted by \(event_id\)/,
    ],
    [
      `CREATE OR REPLACE TABLE {database}.events (${columns})
       ENGINE = ReplacingMergeTree(received_at) PARTITION BY toDate(received_at) ${sorted}`,
      /is partitioned by received_at/,
    ],
    ['DROP TABLE {database}.events SYNC', /does not exist: run "penstock migrate up"/],
  ];
  for (const [statement, expected] of cases) {
    const database = await clickhouse.newDatabase();
    await client.command({ query: forDatabase(statement, database) });
    const faults = await checkSchema(client, database);
    assert.ok(
      faults.some((fault) => expected.test(fault)),
      `${statement}\n${faults.join('\n')}`,
    );
  }
});

test('columns, codecs and settings of the operator are no faults', async () => {
  const { client } = clickhouse;
  const database = await clickhouse.newDatabase();
  const events = tableName(database, 'events');
  await client.command({ query: `ALTER TABLE ${events} ADD COLUMN note String DEFAULT '' FIRST` });
  await client.command({ query: `ALTER TABLE ${events} MODIFY COLUMN metadata String CODEC(ZSTD(3))` });
  await client.command({ query: `ALTER TABLE ${events} MODIFY SETTING non_replicated_deduplication_window = 0` });
  assert.deepEqual(await checkSchema(client, database), []);
});

test('health says why ClickHouse cannot be used, within its time and without the password', async () => {
  const { url, user } = clickhouse;
  const options = { url, user, requestTimeoutMs: 30_000, maxOpenConnections: 1 };
  assert.equal(await checkHealth(clickhouse.client), undefined);
  const refused = createClickHouse({ ...options, password: 'mistaken-password' });
  const away = createClickHouse({ ...options, password: 'mistaken-password', url: 'http://localhost:1' });
  assert.match((await checkHealth(refused)) ?? '', /ClickHouse error 516: /);
  assert.match((await checkHealth(away)) ?? '', /ECONNREFUSED/);
  for (const client of [refused, away]) {
    assert.doesNotMatch((await checkHealth(client)) ?? '', /mistaken/);
    await client.close();
  }
});
