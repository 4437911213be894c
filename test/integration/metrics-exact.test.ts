import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { tableName } from '../../src/shared/clickhouse/client.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import {
  countAll,
  countGroups,
  deduplicate,
  type EventRow,
  type GroupCount,
  type Question,
  randomFrom,
} from '../support/metrics-model.js';
import { insertRows, type MetricsServer, type Response, serveMetrics } from '../support/metrics-server.js';

/** Invariant 3: an event counts once, however often and under whatever version it arrives. */

let clickhouse: TestClickHouse;
const servers: MetricsServer[] = [];
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(async () => {
  for (const server of servers) server.close();
  await clickhouse.stop();
});

function serve(database: string): MetricsServer {
  const server = serveMetrics({ client: clickhouse.client, database });
  servers.push(server);
  return server;
}

async function databaseWith(inserts: readonly (readonly EventRow[])[]): Promise<string> {
  const database = await clickhouse.newDatabase();
  // What is read must be right while nothing has been merged: merging happens when it happens.
  await clickhouse.client.command({ query: `SYSTEM STOP MERGES ${tableName(database, 'events')}` });
  for (const rows of inserts) await insertRows(clickhouse.client, database, rows);
  return database;
}

function asked({ event_name, from, to, channel, group_by }: Question): Record<string, string> {
  return {
    event_name,
    ...(from === undefined ? {} : { from: `${from}` }),
    ...(to === undefined ? {} : { to: `${to}` }),
    ...(channel === undefined ? {} : { channel }),
    ...(group_by === undefined ? {} : { group_by: group_by.join(',') }),
  };
}

async function ok(server: MetricsServer, parameters: Record<string, string>): Promise<Response> {
  const response = await server.get(parameters);
  assert.equal(response.status, 200, response.text);
  return response;
}

async function pageThrough(server: MetricsServer, question: Question, limit: () => number): Promise<GroupCount[]> {
  const groups: GroupCount[] = [];
  let cursor: string | null | undefined;
  do {
    const size = limit();
    const page: Record<string, string> = cursor === undefined || cursor === null ? {} : { cursor };
    const { body } = await ok(server, { ...asked(question), ...page, limit: `${size}` });
    const data = body.data ?? [];
    groups.push(...data);
    cursor = body.next_cursor;
    assert.ok(typeof cursor === 'string' ? data.length === size : data.length <= size);
  } while (typeof cursor === 'string');
  return groups;
}

const HOUR_MS = 3_600_000;
const FEBRUARY = Date.UTC(2026, 1, 27);

/** Names that sort differently in UTF-16, in UTF-8 and without case, or that need escaping somewhere. */
const NAMES = ['view', 'View', 'çay', '\uFF71', '💧', "a'b\\c", 'a\tb\n"', ' ', '🛒%&=+', '\u0001'];
const CHANNELS = ['web', 'mobile', 'api', 'Ärger'];
/** Where months, the shared early partition and the ranges of the types begin and end. */
const EDGES = [
  1,
  Date.UTC(1970, 0, 1, 1),
  Date.UTC(2019, 11, 31, 23, 59, 59, 999),
  Date.UTC(2020, 0, 1),
  Date.UTC(2038, 0, 19, 3, 14, 8),
  Date.UTC(2106, 1, 7, 6, 28, 16),
  Date.UTC(2199, 11, 31, 23, 59, 59, 999),
];

function randomInserts(random: () => number): EventRow[][] {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  const whole = (below: number): number => Math.floor(random() * below);
  const known: EventRow[] = [];
  const fresh = (): EventRow => ({
    event_id: `00000000-0000-4000-8000-${whole(2 ** 40)
      .toString(16)
      .padStart(12, '0')}`,
    event_name: pick(NAMES),
    channel: pick(CHANNELS),
    user_id: `user_${whole(60)}`,
    ts: random() < 0.1 ? pick(EDGES) : FEBRUARY + whole(72 * HOUR_MS),
    received_at: 1_772_000_000_000_000 + whole(1000),
  });
  const later = (row: EventRow): EventRow => ({
    ...row,
    channel: pick(CHANNELS),
    user_id: `user_${whole(60)}`,
    // Earlier, equal and later, so that neither the order of arrival nor the clock alone decides.
    received_at: row.received_at + whole(3) - 1,
  });
  const otherIdentity = (row: EventRow): EventRow =>
    random() < 0.5 ? { ...row, ts: row.ts + 1 } : { ...row, event_name: pick(NAMES) };
  return Array.from({ length: 6 }, () =>
    Array.from({ length: 250 }, () => {
      const chance = random();
      const old = known.length === 0 ? fresh() : pick(known);
      const row = chance < 0.65 ? fresh() : chance < 0.75 ? old : chance < 0.95 ? later(old) : otherIdentity(old);
      known.push(row);
      return row;
    }),
  );
}

function randomQuestion(random: () => number, events: readonly EventRow[]): Question {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  const dimensions = ['channel', 'hour', 'day', 'event_name'];
  const seconds = (): number => Math.floor(pick(events).ts / 1000) + Math.floor(random() * 3) - 1;
  const [low = 0, high = 0] = [Math.max(0, seconds()), Math.max(0, seconds())].toSorted((a, b) => a - b);
  const first = pick(dimensions);
  const groupings: (readonly string[] | undefined)[] = [
    undefined,
    [first],
    [first, pick(dimensions.filter((dimension) => dimension !== first))],
  ];
  const group_by = pick(groupings);
  return {
    event_name: random() < 0.4 ? '*' : pick([...NAMES, 'never']),
    ...(random() < 0.5 ? { from: low } : {}),
    ...(random() < 0.5 ? { to: high } : {}),
    ...(random() < 0.4 ? { channel: pick([...CHANNELS, 'never']) } : {}),
    ...(group_by === undefined ? {} : { group_by }),
  };
}

async function compare(server: MetricsServer, events: readonly EventRow[], question: Question): Promise<void> {
  const { body } = await ok(server, { ...asked(question), limit: '10000' });
  if (question.group_by === undefined) {
    const { total_events, unique_users } = body;
    assert.deepEqual({ total_events, unique_users }, countAll(events, question));
    return;
  }
  assert.deepEqual(body.data, countGroups(events, question));
  assert.equal(body.next_cursor, null);
}

test('every total is that of a count by hand: duplicates, late versions, any range, any grouping, merged or not', async (t) => {
  const seed = Number(process.env['TEST_SEED'] ?? randomInt(2 ** 31));
  t.diagnostic(`TEST_SEED=${seed}`);
  const random = randomFrom(seed);
  const inserts = randomInserts(random);
  const events = deduplicate(inserts.flat());
  const database = await databaseWith(inserts);
  const server = serve(database);
  const table = tableName(database, 'events');
  for (const merge of ['', `SYSTEM START MERGES ${table}`, `OPTIMIZE TABLE ${table} FINAL`]) {
    if (merge !== '') await clickhouse.client.command({ query: merge });
    for (let count = 0; count < 30; count += 1) {
      const question = randomQuestion(random, events);
      await compare(server, events, question).catch((error: unknown) => {
        throw new Error(`TEST_SEED=${seed} ${JSON.stringify(question)} after "${merge}"`, { cause: error });
      });
    }
  }
});

test('pages joined together are the answer without pages', async (t) => {
  const seed = Number(process.env['TEST_SEED'] ?? randomInt(2 ** 31));
  t.diagnostic(`TEST_SEED=${seed}`);
  const random = randomFrom(seed);
  const inserts = randomInserts(random);
  const events = deduplicate(inserts.flat());
  const server = serve(await databaseWith(inserts));
  for (const group_by of [['channel'], ['event_name'], ['day'], ['hour'], ['day', 'hour'], ['hour', 'day']]) {
    const question = { event_name: '*', group_by };
    assert.deepEqual(
      await pageThrough(server, question, () => 1 + Math.floor(random() * 9)),
      countGroups(events, question),
    );
  }
  for (const group_by of [
    ['channel', 'day'],
    ['event_name', 'channel'],
    ['channel', 'event_name'],
    ['event_name', 'hour'],
  ]) {
    const from = Math.floor(FEBRUARY / 1000) + 1234;
    const question = { event_name: '*', from, channel: 'web', group_by };
    assert.deepEqual(
      await pageThrough(server, question, () => 3 + Math.floor(random() * 9)),
      countGroups(events, question),
    );
  }
});

const BASE: EventRow = {
  event_id: '6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c11',
  event_name: 'view',
  channel: 'web',
  user_id: 'ann',
  ts: FEBRUARY,
  received_at: 1_772_000_000_000_000,
};

test('an event received again with another channel counts once, under the channel received last', async () => {
  const changed = { ...BASE, channel: 'api', received_at: BASE.received_at + 1 };
  const arrivals: readonly (readonly [string, EventRow[][]])[] = [
    ['in two inserts', [[BASE], [changed]]],
    ['in two inserts, the later version first', [[changed], [BASE]]],
    ['in one insert', [[BASE, changed]]],
    ['in one insert, the later version first', [[changed, BASE]]],
    ['received in the same microsecond, in two inserts', [[BASE], [{ ...changed, received_at: BASE.received_at }]]],
    ['received in the same microsecond, in one insert', [[BASE, { ...changed, received_at: BASE.received_at }]]],
  ];
  for (const [how, inserts] of arrivals) {
    const server = serve(await databaseWith(inserts));
    const counts = async (channel: string): Promise<number | undefined> =>
      (await ok(server, { event_name: 'view', channel })).body.total_events;
    assert.deepEqual([await counts('web'), await counts('api')], [0, 1], how);
    const { body } = await ok(server, { event_name: '*', group_by: 'channel' });
    assert.deepEqual(body.data, [{ group: 'api', total_events: 1, unique_users: 1 }], how);
  }
});

test('an event with another name, time or id is another event', async () => {
  const others = [
    { ...BASE, event_id: randomUUID() },
    { ...BASE, event_name: 'View' },
    { ...BASE, ts: BASE.ts + 1 },
  ];
  const server = serve(await databaseWith([[BASE], others]));
  const { body } = await ok(server, { event_name: '*' });
  assert.deepEqual([body.total_events, body.unique_users], [4, 1]);
});

test('from and to are both inclusive, to the last millisecond of their second', async () => {
  const second = BASE.ts / 1000;
  const rows = [-1, 0, 999, 1000, 1999, 2000].map((offset) => ({ ...BASE, ts: BASE.ts + offset }));
  const server = serve(await databaseWith([rows]));
  const cases: readonly [string | undefined, string | undefined, number][] = [
    [undefined, undefined, 6],
    [`${second}`, undefined, 5],
    [undefined, `${second}`, 3],
    [`${second}`, `${second}`, 2],
    [`${second + 1}`, `${second + 1}`, 2],
    [`${second}`, `${second + 1}`, 4],
    ['0', '99999999999', 6],
    ['99999999999', '99999999999', 0],
    ['0', '0', 0],
  ];
  for (const [from, to, expected] of cases) {
    const range = { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
    const { body } = await ok(server, { event_name: 'view', ...range });
    assert.equal(body.total_events, expected, JSON.stringify(range));
  }
});

test('hours and days are those of UTC, from 1970 to the far end, and none is filled in', async () => {
  const rows = EDGES.map((ts) => ({ ...BASE, ts }));
  const server = serve(await databaseWith([rows]));
  const groupsBy = async (group_by: string): Promise<unknown[] | undefined> =>
    (await ok(server, { event_name: 'view', group_by })).body.data?.map(({ group }) => group);
  assert.deepEqual(await groupsBy('day'), [
    '1970-01-01',
    '2019-12-31',
    '2020-01-01',
    '2038-01-19',
    '2106-02-07',
    '2199-12-31',
  ]);
  assert.deepEqual(await groupsBy('hour'), [
    '1970-01-01T00:00:00Z',
    '1970-01-01T01:00:00Z',
    '2019-12-31T23:00:00Z',
    '2020-01-01T00:00:00Z',
    '2038-01-19T03:00:00Z',
    '2106-02-07T06:00:00Z',
    '2199-12-31T23:00:00Z',
  ]);
});

test('the view for dashboards shows each event once, in its last version', async () => {
  const database = await databaseWith([[BASE], [{ ...BASE, channel: 'api', received_at: BASE.received_at + 1 }]]);
  const result = await clickhouse.client.query({
    query: `SELECT channel FROM ${tableName(database, 'events_deduplicated')} WHERE event_name = 'view'`,
    format: 'JSONEachRow',
  });
  assert.deepEqual(await result.json(), [{ channel: 'api' }]);
});
