import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXCEPTIONS_FRESH_MS } from '../../src/shared/metrics/exceptions.js';
import { backlog } from '../support/backlog.js';
import { type TestClickHouse, startTestClickHouse } from '../support/clickhouse.js';
import { AsOfWatch } from '../support/as-of-watch.js';
import { EventSource } from '../support/event-source.js';
import { runWithKills } from '../support/kills.js';
import { Producer } from '../support/producer.js';
import { removeDirectory, Service, temporaryDirectory, until } from '../support/service.js';
import { FATE, Tally } from '../support/tally.js';
import { isExact, verify } from '../support/verify.js';

/**
 * Invariants 1 to 3: what was acknowledged counts, and counts once. The short form of `npm run verify`.
 * A failure prints its seed; TEST_SEED repeats the events (not the moments at which things were killed).
 */

const SEED = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

function load(count: number, seed = SEED): { readonly tally: Tally; readonly producer: Producer } {
  const tally = new Tally(new EventSource({ seed, count, users: 10_000 }));
  return { tally, producer: new Producer(tally) };
}

/** Every total and every identity is as the independent count says. */
async function assertExact(
  service: Service,
  tally: Tally,
  target?: { readonly client: TestClickHouse['client']; readonly database: string },
): Promise<void> {
  await service.settled();
  const client = target?.client ?? service.clickhouse();
  try {
    const verification = await verify({
      url: service.url,
      clickhouse: client,
      tally,
      ...(target && { database: target.database }),
    });
    assert.ok(isExact(verification), `seed ${tally.source.seed}: ${JSON.stringify(verification, null, 2)}`);
    assert.ok(verification.acknowledged > 0 && verification.compared > 1_000);
  } finally {
    if (target === undefined) await client.close();
  }
}

async function setWindow(service: Service, window: number): Promise<void> {
  const client = service.clickhouse();
  await client.command({
    query: `ALTER TABLE penstock.events MODIFY SETTING non_replicated_deduplication_window = ${window}`,
  });
  await client.close();
}

test('every total is exact, with 5 % sent twice and the service killed in the middle, also after a drain and new data', async (t) => {
  t.diagnostic(`seed ${SEED}`);
  const dataDir = temporaryDirectory();
  const { tally, producer } = load(126_000);
  let service = await Service.start({ dataDir });
  const watch = new AsOfWatch(producer);
  try {
    const kills = 3;
    service = await runWithKills({
      service,
      restart: {},
      producer,
      work: { singles: [0, 20_000], bulk: [20_000, 120_000] },
      kills,
    });
    assert.ok(producer.unanswered > 0, 'the kills hit requests in flight');
    assert.ok(producer.copies > 5_000);
    await assertExact(service, tally);

    // Drained in the middle of a load: every request whose head was read is answered, what was not taken is sent again.
    producer.url = service.url;
    const sent = producer.run({ singles: [120_000, 123_000], bulk: [123_000, 126_000] });
    await producer.acknowledged(tally.acknowledgements + 500);
    assert.equal(await service.stop(), 0);
    producer.url = undefined;
    service = await Service.start({ dataDir });
    producer.url = service.url;
    await sent;
    await assertExact(service, tally);
    await watch.stop();
    assert.deepEqual(watch.broken, [], 'no answer lacks what was acknowledged before its as_of');
    assert.ok(watch.answers > 10);
  } finally {
    await watch.stop();
    producer.url = undefined;
    await service.dispose();
    await removeDirectory(dataDir);
  }
});

test('every total is exact without deduplication of inserts: identity alone makes it so', async () => {
  const dataDir = temporaryDirectory();
  const { tally, producer } = load(30_000, SEED + 1);
  let service = await Service.start({ dataDir });
  try {
    await setWindow(service, 0);
    service = await runWithKills({
      service,
      restart: {},
      producer,
      work: { singles: [0, 5_000], bulk: [5_000, 30_000] },
      kills: 2,
    });
    await assertExact(service, tally);
  } finally {
    await service.dispose();
    await removeDirectory(dataDir);
  }
});

test('a data directory that was copied with its backlog, and shipped by both, counts once', async (t) => {
  const clickhouse = await startTestClickHouse();
  t.after(() => clickhouse.stop());
  const target = { client: clickhouse.client, database: clickhouse.unusedDatabase() };
  const env = externalClickHouse(clickhouse, target.database);
  const { tally, producer } = load(20_000, SEED + 2);
  const first = await Service.start({ env });
  t.after(() => first.dispose());
  producer.url = first.url;
  await producer.run({ bulk: [0, 5_000] });
  await first.settled();

  const copy = temporaryDirectory();
  t.after(() => removeDirectory(copy));
  // While it is stopped nothing is confirmed: all of it stays in the log.
  process.kill(clickhouse.pid, 'SIGSTOP');
  try {
    await producer.run({ singles: [5_000, 6_000], bulk: [6_000, 20_000] });
    await fs.promises.cp(path.join(first.dataDir, 'wal'), path.join(copy, 'wal'), { recursive: true });
  } finally {
    process.kill(clickhouse.pid, 'SIGCONT');
  }
  assert.ok(frameBytes(copy) > 1_000_000, 'the copy has the backlog');
  await assertExact(first, tally, target);

  const second = await Service.start({ dataDir: copy, env });
  t.after(() => second.dispose());
  await assertExact(second, tally, target);
  assert.equal(await second.stop(), 0);
  assert.equal(frameBytes(copy), 0, 'the copy was shipped as well');
});

test('the same events through two instances on one ClickHouse count once', async (t) => {
  const clickhouse = await startTestClickHouse();
  t.after(() => clickhouse.stop());
  const target = { client: clickhouse.client, database: clickhouse.unusedDatabase() };
  const env = externalClickHouse(clickhouse, target.database);
  const { source } = load(20_000, SEED + 3).tally;
  const instance = async (): Promise<{ readonly service: Service; readonly tally: Tally }> => {
    const service = await Service.start({ env });
    t.after(() => service.dispose());
    return { service, tally: new Tally(source) };
  };
  const instances = await Promise.all([instance(), instance()]);
  await Promise.all(
    instances.map(async ({ service, tally }) => {
      const producer = new Producer(tally);
      producer.url = service.url;
      await producer.run({ singles: [0, 2_000], bulk: [2_000, 20_000] });
      await service.settled();
    }),
  );
  for (const { service, tally } of instances) await assertExact(service, tally, target);
});

test('a log that was killed with its backlog takes new events while it is replayed', async (t) => {
  const dataDir = temporaryDirectory();
  t.after(() => removeDirectory(dataDir));
  const { tally, producer } = load(42_000, SEED + 6);
  await backlog(dataDir, producer, { singles: [0, 2_000], bulk: [2_000, 40_000] });
  const service = await Service.start({ dataDir });
  t.after(() => service.dispose());
  producer.url = service.url;
  await producer.run({ singles: [40_000, 42_000] });
  assert.deepEqual(
    [...producer.answers.keys()].filter((status) => status >= 500),
    [],
  );
  await assertExact(service, tally);
});

test('an encoder that dies costs its culprit a 500, then a 400, and nobody else an event or a connection', async () => {
  const preload = new URL('../support/encoder-killer.js', import.meta.url).href;
  const service = await Service.start({ nodeArgs: ['--import', preload], env: { PENSTOCK_ENCODER_THREADS: '2' } });
  const { tally, producer } = load(40_000, SEED + 4);
  try {
    producer.url = service.url;
    const sent = producer.run({ singles: [0, 20_000], bulk: [20_000, 40_000] });
    const statuses: number[] = [];
    for (let round = 1; round <= 3; round += 1) {
      await producer.acknowledged(round * 8_000);
      statuses.push(await sendKiller(service, 'one'));
    }
    statuses.push(await sendKiller(service, 'another'));
    await sent;
    assert.deepEqual(statuses, [500, 500, 400, 500]);
    assert.deepEqual(
      [...producer.answers.keys()].filter((status) => ![202, 400, 503].includes(status)),
      [],
      'others are served, or asked to come again',
    );
    assert.equal(producer.unanswered, 0, 'no other connection was closed');
    await until(
      async () => (await (await fetch(`${service.url}/ready`)).text()) === '{"status":"ready"}',
      'all encoders are back',
    );
    await assertExact(service, tally);
  } finally {
    await service.dispose();
  }
});

test('the verification notices one lost, one doubled and one altered event', async () => {
  const service = await Service.start();
  const { tally, producer } = load(2_000, SEED + 5);
  const client = service.clickhouse();
  try {
    producer.url = service.url;
    await producer.run({ bulk: [0, 2_000] });
    await assertExact(service, tally);
    const [lost, doubled, altered] = [0, 1, 2].map((nth) =>
      tally.fate.findIndex((fate, at) => fate === FATE.acknowledged && at >= nth * 500),
    );
    const where = (index: number | undefined): string =>
      `event_id = toUUID(concat(${uuidParts(tally.idOf(index ?? 0))}))`;
    const columns = 'channel, user_id, campaign_id, tags, metadata, received_at';
    await client.command({ query: `DELETE FROM penstock.events WHERE ${where(lost)}` });
    await client.command({
      query: `INSERT INTO penstock.events (event_id, event_name, ts, ${columns}) SELECT event_id, event_name, ts + INTERVAL 1 HOUR, ${columns} FROM penstock.events FINAL WHERE ${where(doubled)}`,
    });
    await client.command({
      query: `INSERT INTO penstock.events (event_id, event_name, ts, ${columns}) SELECT event_id, event_name, ts, channel, 'nobody', campaign_id, tags, metadata, now64(6) FROM penstock.events FINAL WHERE ${where(altered)}`,
    });
    // Nobody told the roller: questions about these days go to the raw rows.
    await client.command({
      query: `INSERT INTO penstock.rollup_exceptions (event_name, day, request, reason, wanted)
        SELECT DISTINCT arrayJoin(['', event_name]), toUInt32(toRelativeDayNum(ts)), 1, 'test', 0 FROM penstock.events`,
    });
    // As whoever makes an exception has to: until then answers may come out of memory.
    await sleep(2 * EXCEPTIONS_FRESH_MS);
    const found = await verify({ url: service.url, clickhouse: client, tally });
    assert.deepEqual(
      { lost: found.lost, twice: found.twice, strange: found.strange },
      { lost: 1, twice: 1, strange: 2 },
      found.report.join('\n'),
    );
    assert.ok(
      found.wrong > 10 && found.report.some((line) => line.startsWith(`acknowledged, and not stored: event ${lost},`)),
      found.report.join('\n'),
    );
  } finally {
    await client.close();
    await service.dispose();
  }
});

function externalClickHouse({ url, user, password }: TestClickHouse, database: string): Record<string, string> {
  return {
    PENSTOCK_CLICKHOUSE_URL: url,
    PENSTOCK_CLICKHOUSE_USER: user,
    PENSTOCK_CLICKHOUSE_PASSWORD: password,
    PENSTOCK_CLICKHOUSE_DATABASE: database,
  };
}

/** What its segments hold: the files less the zeros at their ends, for segments may be written as zeros beforehand. */
function frameBytes(dataDir: string): number {
  const directory = path.join(dataDir, 'wal');
  const files = fs.readdirSync(directory).filter((name) => /^\d+\.wal$/.test(name));
  return files.reduce(
    (sum, name) => sum + fs.readFileSync(path.join(directory, name)).findLastIndex((byte) => byte !== 0) + 1,
    0,
  );
}

async function sendKiller(service: Service, name: string): Promise<number> {
  // Escapes in a name, so that no fast path takes it.
  const body = `{"ev\\u0065nt_name":"killer ${name}","channel":"web","user_id":"ends the thread that reads it","timestamp":1700000000}`;
  return (await fetch(`${service.url}/events`, { method: 'POST', body })).status;
}

/** The text of a UUID as ClickHouse literals to be joined. */
function uuidParts(hex: string): string {
  return `'${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}', ''`;
}
