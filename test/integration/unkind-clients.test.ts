import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { HttpConnection } from '../support/http-connection.js';
import { metrics, send } from '../support/requests.js';
import { Service, until } from '../support/service.js';
import { Wire } from '../support/wire.js';

/** Clients that upload slowly, ask without reading, or send more bulk than anyone: none of it costs another client anything. */

const TOLERANCE_S = 1;
const BODY_MAX_BYTES = 2 * 1024 * 1024;

let clickhouse: TestClickHouse;
let service: Service;
before(async () => {
  clickhouse = await startTestClickHouse();
  service = await Service.start({
    env: {
      PENSTOCK_FUTURE_TOLERANCE_S: String(TOLERANCE_S),
      PENSTOCK_BODY_MAX_BYTES: String(BODY_MAX_BYTES),
      PENSTOCK_CLICKHOUSE_URL: clickhouse.url,
      PENSTOCK_CLICKHOUSE_USER: clickhouse.user,
      PENSTOCK_CLICKHOUSE_PASSWORD: clickhouse.password,
      PENSTOCK_CLICKHOUSE_DATABASE: clickhouse.unusedDatabase(),
    },
  });
});
after(async () => {
  await service.dispose();
  await clickhouse.stop();
});

async function openRequests(): Promise<number> {
  const { text } = await send(`${service.adminUrl}/metrics`);
  return Number(/^penstock_requests_open (\d+)$/m.exec(text)?.[1]);
}

function chunk(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
}

test('what is left of a body that was too large is not taken for the body of another request', async () => {
  const head = 'POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n';
  const much = chunk('x'.repeat(BODY_MAX_BYTES - 1));
  const large = await Wire.connect(service.url);
  large.write(`${head}${much}${much}`);
  assert.equal((await large.answer()).status, 413);
  const other = await Wire.connect(service.url);
  other.write(`${head}${chunk('{"event_name":"other","channel":"web",')}`);
  await until(async () => (await openRequests()) === 1, 'the beginning of the other body is there');
  large.write(`${much}${much}`);
  // Read by the service before it has served others a few times.
  for (let i = 0; i < 20; i += 1) assert.equal((await send(`${service.url}/health`)).status, 200);
  other.write(`${chunk('"user_id":"other","timestamp":1700000000}')}0\r\n\r\n`);
  const answer = await other.answer();
  assert.equal(answer.status, 202, answer.body.toString());
  await other.end();
  await large.end();
});

test('an upload that takes longer than the tolerance for timestamps is judged by the clock of its end', async () => {
  const uploads = await Promise.all(
    (['/events', '/events/bulk'] as const).map(async (path) => {
      const wire = await Wire.connect(service.url);
      const open = path === '/events' ? '' : '[';
      const start = `${open}{"event_name":"slow","channel":"web","user_id":"${path}",`;
      wire.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunk(start)}`);
      return { wire, close: path === '/events' ? '}' : '}]' };
    }),
  );
  await until(async () => (await openRequests()) === uploads.length, 'the beginning of the uploads is there');
  const began = Date.now();
  await until(() => Date.now() > began + (TOLERANCE_S + 1) * 1000, 'the tolerance is over');
  for (const { wire, close } of uploads) {
    wire.write(`${chunk(`"timestamp":${Date.now()}${close}`)}0\r\n\r\n`);
    const answer = await wire.answer();
    assert.equal(answer.status, 202, answer.body.toString());
    await wire.end();
  }
  await service.settled();
  assert.equal((await metrics(service, { event_name: 'slow' })).body.total_events, uploads.length);
});

test('a client that asks for a page again and again without reading does not fill the memory', async () => {
  const MAX_GROWTH_KB = 150 * 1024;
  for (const page of ['/openapi.json', '/docs']) {
    const from = residentKb();
    const { hostname, port } = new URL(service.url);
    const socket = net.connect(Number(port), hostname);
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.pause();
    let isDone = false;
    const done = (): void => {
      isDone = true;
    };
    socket.on('close', done);
    socket.write(`GET ${page} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(20_000), done);
    let most = 0;
    // Others are served between two reads from that connection: when they were a few times, all that was sent is read.
    for (let rounds = 0; rounds < 30; rounds += isDone ? 1 : 0) {
      assert.equal((await send(`${service.url}/health`)).status, 200);
      most = Math.max(most, residentKb());
    }
    socket.destroy();
    assert.ok(most - from < MAX_GROWTH_KB, `${page}: from ${from} to ${most} kB`);
  }
});

/** Memory of the service that is in RAM. */
function residentKb(): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${service.pid}/status`, 'utf8'))?.[1]);
}

test('bulk bodies from many clients at once leave room for single events: nobody is refused', async () => {
  const CLIENTS = 24;
  const ROUNDS = 2;
  // With an escape, which the fast way does not take; under 1 MiB, so that several fit into an encoder's ring.
  const text = 'x'.repeat(200);
  const one = (i: number): string =>
    `{"event_name":"m\\u0061ny","channel":"web","user_id":"u${i}","timestamp":1700000000,"metadata":{"text":"${text}"}}`;
  const body = `[${Array.from({ length: 3_000 }, (_, i) => one(i)).join(',')}]`;
  assert.ok(body.length > 0.8 * 1024 * 1024 && body.length < 1024 * 1024);
  const statuses = new Map<string, number>();
  const count = (what: string, status: number): void => {
    const key = `${what} ${status}`;
    statuses.set(key, (statuses.get(key) ?? 0) + 1);
  };
  const bulkDone = new AbortController();
  const bulk = async (): Promise<void> => {
    const connection = new HttpConnection();
    for (let round = 0; round < ROUNDS; round += 1) {
      const answer = await connection.request(service.url, '/events/bulk', 'Prefer: return=minimal\r\n', body);
      count('bulk', answer.status);
    }
    connection.close();
  };
  const singles = async (client: number): Promise<void> => {
    const connection = new HttpConnection();
    for (let i = 0; !bulkDone.signal.aborted; i += 1) {
      const event = `{"event_name":"single","channel":"web","user_id":"u${client}_${i}","timestamp":1700000000}`;
      count('single', (await connection.request(service.url, '/events', '', event)).status);
    }
    connection.close();
  };
  const beside = Promise.all(Array.from({ length: 8 }, (_, client) => singles(client)));
  await Promise.all(Array.from({ length: CLIENTS }, bulk)).finally(() => {
    bulkDone.abort();
  });
  await beside;
  assert.deepEqual([...statuses.keys()].toSorted(), ['bulk 202', 'single 202'], JSON.stringify([...statuses]));
});
