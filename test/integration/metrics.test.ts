import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { createClickHouse, tableName } from '../../src/shared/clickhouse/client.js';
import { eventually, startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import type { EventRow } from '../support/metrics-model.js';
import {
  type Answer,
  insertRows,
  type MetricsServer,
  type MetricsServerOptions,
  serveMetrics,
} from '../support/metrics-server.js';

/** GET /metrics over HTTP: the shape of answers, refusals, limits, and clients that are slow or leave. */

let clickhouse: TestClickHouse;
/** Three events; `slow` has rows that take 5 ms each to read. */
let database: string;
let slow: string;
const servers: MetricsServer[] = [];

before(async () => {
  clickhouse = await startTestClickHouse();
  database = await clickhouse.newDatabase();
  await insertRows(clickhouse.client, database, [
    row('ann', 'web', 1_772_024_670),
    row('bob', 'web', 1_772_028_000),
    row('ann', 'push', 1_772_111_070),
  ]);
  slow = await newSlowDatabase();
});

after(async () => {
  for (const server of servers) server.close();
  await clickhouse.stop();
});

function row(user_id: string, channel: string, seconds: number): EventRow {
  const event_id = '6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c11';
  return { event_id, event_name: 'product_view', channel, user_id, ts: seconds * 1000, received_at: 1e15 };
}

function serve(options: Partial<MetricsServerOptions> = {}): MetricsServer {
  const server = serveMetrics({ client: clickhouse.client, database, ...options });
  servers.push(server);
  return server;
}

async function newSlowDatabase(): Promise<string> {
  const name = clickhouse.unusedDatabase();
  const events = tableName(name, 'events');
  await clickhouse.client.command({ query: `CREATE DATABASE ${name}` });
  await clickhouse.client.command({
    query: `
      CREATE TABLE ${events} (event_name String, ts DateTime64(3, 'UTC'), event_id UInt32, received_at UInt8,
        user_id String ALIAS toString(sleepEachRow(0.005)))
      ENGINE = ReplacingMergeTree(received_at) PARTITION BY toYYYYMM(ts) ORDER BY (event_name, ts, event_id)`,
  });
  // Fifty partitions of 100 rows: a block may sleep for three seconds at most.
  await clickhouse.client.command({
    query: `
      INSERT INTO ${events} (event_name, ts, event_id, received_at)
      SELECT 'slow', toDateTime64('2020-01-15 00:00:00', 3, 'UTC') + INTERVAL number % 50 MONTH, number, 0 FROM numbers(5000)`,
  });
  return name;
}

test('an answer has the members of the contract in their order', async () => {
  const server = serve({ asOfShipped: () => 1_772_111_099.512_9 });
  const cases: readonly [Record<string, string>, string][] = [
    [
      { event_name: 'product_view' },
      '{"event_name":"product_view","total_events":3,"unique_users":2,"as_of":1772111099.512}',
    ],
    [
      { event_name: '*', from: '1772024671', channel: 'web' },
      '{"event_name":"*","from":1772024671,"total_events":1,"unique_users":1,"as_of":1772111099.512}',
    ],
    [
      { to: '1772111070', event_name: 'product_view', from: '1772024670', group_by: 'channel' },
      '{"event_name":"product_view","from":1772024670,"to":1772111070,"grouped_by":"channel","data":[' +
        '{"group":"web","total_events":2,"unique_users":2},{"group":"push","total_events":1,"unique_users":1}],' +
        '"next_cursor":null,"as_of":1772111099.512}',
    ],
    [
      { event_name: 'product_view', group_by: 'channel,day' },
      '{"event_name":"product_view","grouped_by":"channel,day","data":[' +
        '{"group":{"day":"2026-02-25","channel":"web"},"total_events":2,"unique_users":2},' +
        '{"group":{"day":"2026-02-26","channel":"push"},"total_events":1,"unique_users":1}],' +
        '"next_cursor":null,"as_of":1772111099.512}',
    ],
    [
      { event_name: 'product_view', group_by: 'hour', limit: '3' },
      '{"event_name":"product_view","grouped_by":"hour","data":[' +
        '{"group":"2026-02-25T13:00:00Z","total_events":1,"unique_users":1},' +
        '{"group":"2026-02-25T14:00:00Z","total_events":1,"unique_users":1},' +
        '{"group":"2026-02-26T13:00:00Z","total_events":1,"unique_users":1}],' +
        '"next_cursor":null,"as_of":1772111099.512}',
    ],
    [
      { event_name: 'product_view', channel: 'fax' },
      '{"event_name":"product_view","total_events":0,"unique_users":0,"as_of":1772111099.512}',
    ],
    [
      { event_name: 'never', group_by: 'event_name' },
      '{"event_name":"never","grouped_by":"event_name","data":[],"next_cursor":null,"as_of":1772111099.512}',
    ],
  ];
  for (const [parameters, expected] of cases) {
    const response = await server.get(parameters);
    assert.deepEqual([response.status, response.text], [200, expected]);
    assert.equal(response.headers.get('content-type'), 'application/json');
  }
});

test('what is wrong with a question is a 400 that names the parameter', async () => {
  const server = serve();
  for (const query of ['', '?', '?event_name=a&colour=red', '?event_name=a&from=2&to=1', '?event_name=%ff']) {
    const response = await fetch(`http://127.0.0.1:${server.port}/metrics${query}`);
    const body = (await response.json()) as Answer & { details: { path: string }[] };
    assert.equal(response.status, 400, query);
    assert.equal(body.code, 'validation_error');
    assert.ok(body.error?.includes(body.details[0]?.path.slice(1) ?? ''), JSON.stringify(body));
    assert.equal(response.headers.get('retry-after'), null);
  }
});

test('as_of is read before the query is sent', async () => {
  const order: string[] = [];
  const { client } = clickhouse;
  const watched = Object.assign(Object.create(client) as typeof client, {
    query: (parameters: Parameters<typeof client.query>[0]) => {
      order.push('query');
      return client.query(parameters);
    },
  });
  const asOfShipped = (): number => order.push('as_of');
  await serve({ client: watched, asOfShipped }).get({ event_name: 'product_view' });
  assert.deepEqual(order, ['as_of', 'query']);
});

test('HEAD has the head of GET', async () => {
  const response = await fetch(`http://127.0.0.1:${serve().port}/metrics?event_name=product_view`, { method: 'HEAD' });
  assert.equal(response.status, 200);
  assert.ok(Number(response.headers.get('content-length')) > 50);
  assert.equal(await response.text(), '');
});

function retryAfter(headers: Headers): number {
  const text = headers.get('retry-after') ?? '';
  assert.match(text, /^[1-9]\d*$/);
  return Number(text);
}

test('a query over its time is stopped and answered 503 query_limit', async () => {
  const server = serve({ database: slow, timeoutMs: 200 });
  const { status, body, headers } = await server.get({ event_name: '*' });
  assert.deepEqual([status, body.code], [503, 'query_limit']);
  assert.ok(retryAfter(headers) >= 1);
  await eventually('no query is left in ClickHouse', async () => (await slowQueries()) === 0);
});

test('beyond the queries that run and those that wait the answer is 503 overloaded', async () => {
  const server = serve({ database: slow, timeoutMs: 300, concurrency: 1 });
  const responses = await Promise.all(Array.from({ length: 12 }, () => server.get({ event_name: '*' })));
  const codes = responses.map(({ body }) => body.code);
  assert.ok(codes.includes('query_limit'), codes.join());
  assert.ok(codes.includes('overloaded'), codes.join());
  for (const { status, headers } of responses) {
    assert.equal(status, 503);
    assert.ok(retryAfter(headers) >= 1);
  }
});

test('without ClickHouse, with a wrong password or without the table the answer is 503 clickhouse_unavailable', async () => {
  const { url, user, password } = clickhouse;
  const options = { url, user, password, requestTimeoutMs: 5000, maxOpenConnections: 2 };
  const away = createClickHouse({ ...options, url: 'http://localhost:1' });
  const refused = createClickHouse({ ...options, password: 'mistaken' });
  for (const broken of [{ client: away }, { client: refused }, { database: 'no_such_database' }]) {
    const server = serve(broken);
    const waits: number[] = [];
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const { status, body, headers } = await server.get({ event_name: '*' });
      assert.deepEqual([status, body.code, body.error], [503, 'clickhouse_unavailable', 'ClickHouse is not available']);
      waits.push(retryAfter(headers));
    }
    assert.deepEqual(waits, [1, 2, 4]);
  }
  await Promise.all([away.close(), refused.close()]);
});

test('a ClickHouse that takes the query and never answers is 503 clickhouse_unavailable', async () => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket));
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const address = silent.address();
  assert.ok(typeof address === 'object' && address !== null);
  const client = createClickHouse({
    url: `http://127.0.0.1:${address.port}`,
    user: 'u',
    password: 'p',
    requestTimeoutMs: 60_000,
    maxOpenConnections: 1,
  });
  const { status, body } = await serve({ client, timeoutMs: 100 }).get({ event_name: '*' });
  assert.deepEqual([status, body.code], [503, 'clickhouse_unavailable']);
  for (const socket of sockets) socket.destroy();
  silent.close();
  await client.close();
});

async function slowQueries(): Promise<number> {
  const result = await clickhouse.client.query({
    query: `SELECT count() FROM system.processes WHERE position(query, {needle:String}) > 0 AND query_id != queryID()`,
    query_params: { needle: `${slow}\`.\`events\` FINAL` },
    format: 'TabSeparated',
  });
  return Number(await result.text());
}

test('a client that leaves takes its query with it, and its place in the queue is free', async () => {
  const server = serve({ database: slow, timeoutMs: 20_000, concurrency: 1 });
  const running = new AbortController();
  const url = `http://127.0.0.1:${server.port}/metrics?event_name=*`;
  const first = fetch(url, { signal: running.signal });
  first.catch(() => undefined);
  await eventually('the query runs', async () => (await slowQueries()) === 1);
  const waiting = new AbortController();
  const second = fetch(url, { signal: waiting.signal });
  second.catch(() => undefined);
  waiting.abort();
  running.abort();
  await assert.rejects(first, { name: 'AbortError' });
  // Its rows would take 12 seconds on two threads.
  await eventually('the query is gone from ClickHouse', async () => (await slowQueries()) === 0, 4_000);
  const { status } = await server.get({ event_name: 'never' });
  assert.equal(status, 200);
});

/** 10 000 groups whose names are all control characters, six bytes each in JSON: an answer of about 8 MB. */
async function newLargeDatabase(): Promise<string> {
  const large = await clickhouse.newDatabase();
  await clickhouse.client.command({
    query: `
      INSERT INTO ${tableName(large, 'events')} (event_id, event_name, channel, user_id, ts)
      SELECT generateUUIDv4(), concat(repeat('\\x01', 120), leftPad(toString(number), 8, '0')), 'web', 'ann', now64(3)
      FROM numbers(10000)`,
  });
  return large;
}

test('a large answer reaches a slow reader whole, while others are served', async () => {
  const server = serve({ database: await newLargeDatabase() });
  const socket = connect(server.port, '127.0.0.1');
  await once(socket, 'connect');
  socket.pause();
  const chunks: Buffer[] = [];
  socket.write(
    'GET /metrics?event_name=*&group_by=event_name&limit=10000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
  );
  // `readable` is told once while nothing is read: from here on the server has more to send than the sockets hold.
  await once(socket, 'readable');
  assert.equal((await server.get({ event_name: 'never' })).status, 200);

  const ended = once(socket, 'end');
  let received = 0;
  let expected = Number.POSITIVE_INFINITY;
  while (received < expected) {
    const chunk = socket.read(Math.min(16_384, Math.max(1, socket.readableLength))) as Buffer | null;
    if (chunk === null) {
      await Promise.race([once(socket, 'readable'), ended]);
      continue;
    }
    chunks.push(chunk);
    received += chunk.length;
    if (!Number.isFinite(expected)) expected = messageLength(Buffer.concat(chunks));
    // One small piece for each turn of the server's loop, which is this one.
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.destroy();
  const message = Buffer.concat(chunks);
  assert.ok(message.length > 7_000_000, `${message.length}`);
  const { data, next_cursor } = JSON.parse(message.subarray(message.indexOf('\r\n\r\n') + 4).toString()) as Answer;
  assert.equal(next_cursor, null);
  assert.deepEqual(
    data?.map(({ group }) => (typeof group === 'string' ? group.slice(120) : group)),
    Array.from({ length: 10_000 }, (_, index) => String(index).padStart(8, '0')),
  );
});

/** Bytes of head and body, or infinity while the head is not complete. */
function messageLength(bytes: Buffer): number {
  const end = bytes.indexOf('\r\n\r\n');
  const length = /^content-length: (\d+)$/im.exec(bytes.subarray(0, Math.max(0, end)).toString())?.[1];
  return end === -1 || length === undefined ? Number.POSITIVE_INFINITY : end + 4 + Number(length);
}

test('a reader that leaves in the middle of a large answer harms nobody', async () => {
  const server = serve({ database: await newLargeDatabase() });
  const socket = connect(server.port, '127.0.0.1');
  socket.write('GET /metrics?event_name=*&group_by=event_name&limit=10000 HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'data');
  socket.pause();
  socket.resetAndDestroy();
  const { body } = await server.get({ event_name: '*' });
  assert.equal(body.total_events, 10_000);
});
