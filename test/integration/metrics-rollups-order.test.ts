import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import { tableName } from '../../src/shared/clickhouse/client.js';
import { eventually, startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import type { EventRow } from '../support/metrics-model.js';
import { insertRows, type MetricsServer, type Response, serveMetrics } from '../support/metrics-server.js';
import { ReferenceRoller } from '../support/reference-roller.js';

/** What may happen while a question is answered from rollups: rolling, numbering, exceptions. */

const SHIPPED = 1;
const ROLLED = 2;
const DAY_MS = 86_400_000;
/** A whole minute, of which cells are read, and the beginning of the next, which is read from raw rows. */
const MINUTE = Date.UTC(2026, 1, 26, 13, 58);
const DAY = Math.floor(MINUTE / DAY_MS);
const RANGE = { from: `${MINUTE / 1000}`, to: `${MINUTE / 1000 + 60 + 29}` };
const USERS = 40;

let clickhouse: TestClickHouse;
const servers: MetricsServer[] = [];
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(async () => {
  for (const server of servers) server.close();
  await clickhouse.stop();
});

type Query = ClickHouseClient['query'];

/** The test's client, with something done to each query before it is sent. */
function clientWith(
  prepare: (query: string) => Promise<string> | string,
  settings: ClickHouseSettings = {},
): ClickHouseClient {
  const { client } = clickhouse;
  const query = async (parameters: Parameters<Query>[0]): Promise<unknown> =>
    await client.query({
      ...parameters,
      query: await prepare(parameters.query),
      clickhouse_settings: { ...parameters.clickhouse_settings, ...settings },
    });
  return Object.assign(Object.create(client) as ClickHouseClient, { query: query as Query });
}

function serve(database: string, client: ClickHouseClient = clickhouse.client): MetricsServer {
  const server = serveMetrics({
    client,
    database,
    rollups: () => 'ready',
    asOfShipped: () => SHIPPED,
    asOfRolled: () => ROLLED,
  });
  servers.push(server);
  return server;
}

function event(user: number, ts: number): EventRow {
  const event_id = `00000000-0000-4000-8000-${String(user).padStart(12, '0')}`;
  return { event_id, event_name: 'view', channel: 'web', user_id: `user_${user}`, ts, received_at: 1e15 };
}

/** Each user once in the whole minute and once at the end; nobody has a number, nothing is rolled. */
async function newDatabase(): Promise<{ database: string; roller: ReferenceRoller }> {
  const database = await clickhouse.newDatabase();
  const users = Array.from({ length: USERS }, (_, user) => user);
  await insertRows(clickhouse.client, database, [
    ...users.map((user) => event(user, MINUTE)),
    ...users.map((user) => event(user, MINUTE + 60_000)),
  ]);
  return { database, roller: new ReferenceRoller(clickhouse.client, database) };
}

const WHOLE_MINUTE = `ts = fromUnixTimestamp64Milli(${MINUTE}, 'UTC')`;

async function ok(server: MetricsServer, parameters: Record<string, string>): Promise<Response['body']> {
  const response = await server.get({ event_name: 'view', ...parameters });
  assert.equal(response.status, 200, response.text);
  return response.body;
}

/**
 * Holds the statement up where its cells are read, of whole minutes or of the ends, whichever comes first:
 * ClickHouse evaluates a scalar subquery once, where it first meets it.
 */
function sleepBetween(query: string): string {
  const sleep = '(SELECT sleep(1.5))';
  return query
    .replace('AND generation = 0', `AND generation = ${sleep}`)
    .replace('toInt64(length(kept)) AS events', `toInt64(length(kept)) + ${sleep} AS events`);
}

async function isSleeping(database: string): Promise<boolean> {
  const result = await clickhouse.client.query({
    query: `SELECT count() FROM system.processes WHERE position(query, 'SELECT sleep(1.5)') > 0
      AND position(query, {database:String}) > 0 AND query_id != queryID()`,
    query_params: { database },
    format: 'TabSeparated',
  });
  return Number(await result.text()) === 1;
}

interface Held {
  readonly database: string;
  readonly server: MetricsServer;
  readonly body: Response['body'];
}

/** Asks, and does `meanwhile` while the statement sleeps; once more where a slow machine took longer over it. */
async function askHeld(
  prepare: (roller: ReferenceRoller) => Promise<void>,
  meanwhile: (roller: ReferenceRoller) => Promise<void>,
): Promise<Held> {
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const { database, roller } = await newDatabase();
    await prepare(roller);
    let hold = false;
    const server = serve(
      database,
      clientWith((query) => (hold ? sleepBetween(query) : query)),
    );
    await ok(server, {});
    hold = true;
    const answer = ok(server, RANGE);
    await eventually('the statement is under way', () => isSleeping(database));
    await meanwhile(roller);
    const wasInTime = await isSleeping(database);
    const body = await answer;
    if (wasInTime) return { database, server, body };
  }
  return assert.fail('what has to happen meanwhile never did');
}

test('what is rolled while a statement runs is in the answer as a whole, a minute at least, or not at all', async () => {
  const { database, body } = await askHeld(
    () => Promise.resolve(),
    async (roller) => {
      await roller.numberUsers();
      await roller.addCells('true', { commits: 1 });
    },
  );
  const { total_events = -1, unique_users } = body;
  assert.ok([0, USERS, 2 * USERS].includes(total_events), `${total_events}`);
  assert.equal(unique_users, total_events === 0 ? 0 : USERS);
  const later = await ok(serve(database), RANGE);
  assert.deepEqual([later.total_events, later.unique_users, later.as_of], [2 * USERS, USERS, ROLLED]);
});

test('while users are rolled one by one, no answer has one of them twice', async () => {
  const { database, roller } = await newDatabase();
  await roller.numberUsers();
  await roller.addCells(`NOT (${WHOLE_MINUTE})`);
  const server = serve(database);
  const rolled = new AbortController();
  const totals = new Set<number | undefined>();
  const askOn = async (group_by: Record<string, string>): Promise<void> => {
    while (!rolled.signal.aborted) {
      const { data, ...all } = await ok(server, { ...RANGE, ...group_by });
      const { total_events, unique_users } = data?.[0] ?? all;
      assert.equal(unique_users, USERS);
      totals.add(total_events);
    }
  };
  const readers = [askOn({}), askOn({}), askOn({ group_by: 'channel' })];
  try {
    for (let user = 0; user < USERS; user += 1) {
      const where = `user_id = 'user_${user}' AND ${WHOLE_MINUTE}`;
      await roller.addCells(where);
    }
  } finally {
    rolled.abort();
  }
  await Promise.all(readers);
  assert.ok(totals.size > 1, `answers fell between the rolls: ${[...totals].join()}`);
});

test('an exception that is made while a statement runs is seen: the question is put again', async () => {
  const { server, body } = await askHeld(
    async (roller) => {
      await roller.numberUsers();
      await roller.addCells();
    },
    async (roller) => {
      await roller.except({ event_name: 'view', day: DAY, request: 1 });
      await roller.addCells();
    },
  );
  assert.deepEqual([body.total_events, body.unique_users, body.as_of], [2 * USERS, USERS, SHIPPED]);
  assert.equal(server.tally.repeated, 1);
  assert.equal(server.tally.fromRaw.get('exception'), 1);
});

test('exceptions are loaded once; each question after that is one statement, and sees that they have changed', async () => {
  const { database, roller } = await newDatabase();
  await roller.numberUsers();
  await roller.addCells();
  const sent: string[] = [];
  const server = serve(
    database,
    clientWith((query) => {
      sent.push(query);
      return query;
    }),
  );
  const sentFor = async (parameters: Record<string, string>): Promise<number> => {
    sent.length = 0;
    await ok(server, parameters);
    return sent.length;
  };
  assert.equal(await sentFor({}), 2);
  assert.equal(await sentFor({}), 1);
  assert.equal(await sentFor({ group_by: 'hour,channel' }), 1);
  assert.equal(await sentFor({ ...RANGE, from: `${Number(RANGE.from) - 7}` }), 1);
  assert.equal(await sentFor({ ...RANGE, event_name: '*', group_by: 'event_name' }), 1);
  // No row that could bring the fingerprint.
  assert.equal(await sentFor({ event_name: 'never', group_by: 'day' }), 2);

  await roller.except({ event_name: 'view', day: DAY + 7, request: 1 });
  assert.equal(await sentFor({}), 3);
  assert.deepEqual([server.tally.repeated, server.tally.fromRaw.get('exception')], [1, 1]);
  await roller.except({ event_name: 'view', day: DAY + 7, request: 1, done: true, generation: 3 });
  assert.equal(await sentFor({}), 2);
  assert.equal(await sentFor({}), 1);
});

test('an answer without rows is believed only if no exception was made meanwhile', async () => {
  const { database, roller } = await newDatabase();
  const server = serve(database);
  assert.deepEqual((await ok(server, { group_by: 'day' })).data, []);
  await roller.except({ event_name: 'view', day: DAY, request: 1 });
  assert.deepEqual((await ok(server, { group_by: 'day' })).data, [
    { group: '2026-02-26', total_events: 2 * USERS, unique_users: USERS },
  ]);
});

test('where exceptions change at every attempt, the answer comes from raw rows', async () => {
  const { database, roller } = await newDatabase();
  let request = 0;
  const server = serve(
    database,
    clientWith(async (query) => {
      if (query.includes('`rollup`')) await roller.except({ event_name: 'other', day: 1, request: (request += 1) });
      return query;
    }),
  );
  const { total_events, as_of } = await ok(server, {});
  assert.deepEqual([total_events, as_of], [2 * USERS, SHIPPED]);
  assert.deepEqual([server.tally.repeated, server.tally.fromRaw.get('changing')], [3, 1]);
});

test('as_of is read before the statement that answers is sent', async () => {
  const { database } = await newDatabase();
  const order: string[] = [];
  const server = serveMetrics({
    client: clientWith((query) => {
      order.push(query.includes('`rollup`') ? 'cells' : 'exceptions');
      return query;
    }),
    database,
    rollups: () => 'ready',
    asOfRolled: () => order.push('as_of'),
  });
  servers.push(server);
  const { as_of = 0 } = (await server.get({ event_name: 'view' })).body;
  assert.deepEqual(order.slice(as_of - 1), ['as_of', 'cells']);
});

test('thousands of rebuilt days go along with a statement, more are answered from raw rows', async () => {
  const { database, roller } = await newDatabase();
  await roller.numberUsers();
  await roller.addCells('true', { generation: 5 });
  const rebuild = async (first: number, count: number): Promise<void> => {
    await clickhouse.client.command({
      query: `INSERT INTO ${tableName(database, 'rollup_exceptions')} (event_name, day, request, reason, done, generation)
        SELECT 'view', ${DAY} - number, 1, 'changed', 1, 5 FROM numbers(${first}, ${count})`,
    });
  };
  const server = serve(database);
  await rebuild(0, 2500);
  const answer = await ok(server, {});
  assert.deepEqual([answer.total_events, answer.unique_users, answer.as_of], [2 * USERS, USERS, ROLLED]);
  await rebuild(2500, 2500);
  assert.equal((await ok(server, {})).as_of, SHIPPED);
  assert.equal((await ok(server, RANGE)).as_of, ROLLED);
});

test('more groups than one answer may have are a 400 that says what to narrow', async () => {
  const database = await clickhouse.newDatabase();
  await clickhouse.client.command({
    query: `INSERT INTO ${tableName(database, 'rollup')} (level, event_name, bucket, total)
      SELECT 4, toString(number), 4000, 1 FROM numbers(2200000)`,
    clickhouse_settings: { optimize_on_insert: 0 },
  });
  // Each thread counts its groups for itself.
  const server = serve(
    database,
    clientWith((query) => query, { max_threads: 1 }),
  );
  const { status, body, headers } = await server.get({ event_name: '*', group_by: 'event_name' });
  assert.deepEqual([status, body.code], [400, 'query_too_costly']);
  assert.match(body.error ?? '', /2000000 groups.*narrow from and to/);
  assert.equal(headers.get('retry-after'), null);
  const narrow = await server.get({ event_name: '*', group_by: 'event_name', to: '86399' });
  assert.deepEqual([narrow.status, narrow.body.data], [200, []]);
});
