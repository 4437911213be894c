import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { Gate } from '../support/gate.js';
import {
  type Answered,
  assertAccepted,
  assertRefused,
  event,
  metrics,
  postBulk,
  postEvent,
  send,
} from '../support/requests.js';
import { Service, until } from '../support/service.js';

/** api.md: what is answered while ClickHouse is away or hangs, the quota of the log, and that all goes on by itself after. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

interface Options {
  readonly url: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A service on a database of its own behind `url`. */
async function withService({ url, env = {} }: Options, work: (service: Service) => Promise<void>): Promise<void> {
  const service = await Service.start({
    env: {
      PENSTOCK_CLICKHOUSE_URL: url,
      PENSTOCK_CLICKHOUSE_USER: clickhouse.user,
      PENSTOCK_CLICKHOUSE_PASSWORD: clickhouse.password,
      PENSTOCK_CLICKHOUSE_DATABASE: clickhouse.unusedDatabase(),
      // A ClickHouse that hangs is to be noticed within the patience of a test.
      PENSTOCK_CLICKHOUSE_TIMEOUT_MS: '2000',
      PENSTOCK_METRICS_TIMEOUT_MS: '2000',
      ...env,
    },
  });
  try {
    await work(service);
  } finally {
    await service.dispose();
  }
}

const ready = (service: Service): Promise<Answered> => send(`${service.url}/ready`);

async function assertDegraded(service: Service): Promise<void> {
  await until(
    async () => (await ready(service)).body.checks?.['clickhouse'] !== undefined,
    'ClickHouse is known to be away',
  );
  const { status, body } = await ready(service);
  assert.equal(status, 200);
  assert.deepEqual([body.status, Object.keys(body.checks ?? {})], ['ready', ['clickhouse']]);
  assert.match(body.checks?.['clickhouse'] ?? '', /^degraded: ./);
}

async function assertCounts(service: Service, eventName: string, events: number): Promise<void> {
  await service.settled();
  const { body } = await metrics(service, { event_name: eventName });
  assert.deepEqual([body.total_events, body.unique_users], [events, events]);
}

/** Posts events of about 10 KB until one is refused; how many were acknowledged, and the refusal. */
async function fillLog(service: Service, eventName: string): Promise<{ acknowledged: number; refusal: Answered }> {
  for (let i = 0; ; i += 1) {
    const answer = await postEvent(
      service,
      event({ event_name: eventName, user_id: `u${i}`, metadata: { fill: 'x'.repeat(10_000) } }),
    );
    if (answer.status !== 202) return { acknowledged: i, refusal: answer };
    assert.ok(i < 1000, 'the quota is never reached');
  }
}

describe('ClickHouse away', () => {
  test('at the start: the process starts, accepts, says so, and ships when it comes', async () => {
    const gate = await Gate.to(clickhouse.url);
    try {
      await withService({ url: gate.url }, async (service) => {
        assert.equal(service.clickhouseUrl, gate.url);
        await assertDegraded(service);
        assert.deepEqual((await send(`${service.url}/health`)).body, { status: 'healthy' });
        for (let i = 0; i < 20; i += 1)
          assertAccepted(await postEvent(service, event({ event_name: 'early', user_id: `u${i}` })));
        assertRefused(await metrics(service, { event_name: 'early' }), 503, 'clickhouse_unavailable');
        assertRefused(await metrics(service, {}), 400, 'validation_error');
        await gate.open();
        await until(
          async () => (await metrics(service, { event_name: 'early' })).status === 200,
          'questions are answered',
        );
        await assertCounts(service, 'early', 20);
        await until(async () => (await ready(service)).text === '{"status":"ready"}', 'readiness has no reservation');
      });
    } finally {
      await gate.close();
    }
  });

  test('for a while: nothing is refused, nothing is lost, nothing counts twice', async () => {
    const gate = await Gate.to(clickhouse.url);
    await gate.open();
    try {
      await withService({ url: gate.url }, async (service) => {
        let sent = 0;
        const some = async (): Promise<void> => {
          for (let i = 0; i < 10; i += 1) {
            assertAccepted(await postEvent(service, event({ event_name: 'while', user_id: `u${sent}` })));
            sent += 1;
          }
        };
        await some();
        await assertCounts(service, 'while', sent);
        const earlier = (await metrics(service, { event_name: 'while' })).body.as_of ?? 0;
        for (let outage = 0; outage < 2; outage += 1) {
          await gate.close();
          await some();
          await assertDegraded(service);
          assertRefused(await metrics(service, { event_name: 'while' }), 503, 'clickhouse_unavailable');
          await gate.open();
          await until(
            async () => (await metrics(service, { event_name: 'while' })).status === 200,
            'questions are answered',
          );
        }
        await assertCounts(service, 'while', sent);
        assert.ok(((await metrics(service, { event_name: 'while' })).body.as_of ?? 0) > earlier);
      });
    } finally {
      await gate.close();
    }
  });

  test('makes an instance unready where PENSTOCK_READY_REQUIRES_CLICKHOUSE says so, and ready again when it is back', async () => {
    const gate = await Gate.to(clickhouse.url);
    try {
      await withService({ url: gate.url, env: { PENSTOCK_READY_REQUIRES_CLICKHOUSE: 'true' } }, async (service) => {
        const { status, body } = await ready(service);
        assert.deepEqual([status, body.status, Object.keys(body.checks ?? {})], [503, 'not_ready', ['clickhouse']]);
        assert.notEqual(body.checks?.['clickhouse'], '');
        assertAccepted(await postEvent(service, event()));
        await gate.open();
        await until(async () => (await ready(service)).status === 200, 'it is ready');
      });
    } finally {
      await gate.close();
    }
  });

  test('ends a drain in its time, and what was acknowledged ships at the next start', async () => {
    const gate = await Gate.to(clickhouse.url);
    const database = clickhouse.unusedDatabase();
    const settings = {
      PENSTOCK_CLICKHOUSE_URL: gate.url,
      PENSTOCK_CLICKHOUSE_USER: clickhouse.user,
      PENSTOCK_CLICKHOUSE_PASSWORD: clickhouse.password,
      PENSTOCK_CLICKHOUSE_DATABASE: database,
      PENSTOCK_DRAIN_TIMEOUT_MS: '500',
    };
    const first = await Service.start({ env: settings });
    try {
      assertAccepted(await postEvent(first, event({ event_name: 'kept', user_id: 'a' })));
      assert.equal(await first.stop(), 0);
      await gate.open();
      const second = await Service.start({ env: settings, dataDir: first.dataDir });
      try {
        await assertCounts(second, 'kept', 1);
      } finally {
        await second.dispose();
      }
    } finally {
      await first.dispose();
      await gate.close();
    }
  });
});

describe('ClickHouse that hangs', () => {
  test('fills the log to its quota: 503 log_full with Retry-After, and it goes on by itself afterwards', async () => {
    await withService({ url: clickhouse.url, env: { PENSTOCK_WAL_MAX_BYTES: '512KiB' } }, async (service) => {
      assertAccepted(await postEvent(service, event({ event_name: 'settled' })));
      await service.settled();
      process.kill(clickhouse.pid, 'SIGSTOP');
      let acknowledged: number;
      try {
        const full = await fillLog(service, 'quota');
        acknowledged = full.acknowledged;
        assertRefused(full.refusal, 503, 'log_full');
        assert.ok(acknowledged > 40 && acknowledged < 60, String(acknowledged));
        assertRefused(
          await postBulk(service, JSON.stringify([event({ event_name: 'quota', user_id: 'bulk' })])),
          503,
          'log_full',
        );
        const { status, body } = await ready(service);
        assert.deepEqual([status, body.status], [503, 'not_ready']);
        assert.ok(body.checks?.['wal'] !== undefined);
        assert.equal((await send(`${service.url}/health`)).status, 200);
        assertRefused(await metrics(service, { event_name: 'quota' }), 503, 'clickhouse_unavailable');
      } finally {
        process.kill(clickhouse.pid, 'SIGCONT');
      }
      await until(async () => (await ready(service)).status === 200, 'it is ready again');
      const again = await postEvent(service, event({ event_name: 'quota', user_id: 'again' }));
      assertAccepted(again);
      await assertCounts(service, 'quota', acknowledged + 1);
    });
  });

  test('a question that is open at SIGTERM is answered', async () => {
    await withService(
      { url: clickhouse.url, env: { PENSTOCK_DRAIN_TIMEOUT_MS: '1000', PENSTOCK_METRICS_TIMEOUT_MS: '60000' } },
      async (service) => {
        await service.settled();
        process.kill(clickhouse.pid, 'SIGSTOP');
        try {
          const question = metrics(service, { event_name: 'a' });
          // Read in order on one thread: when this is answered, the question has been read too.
          const open = await send(`${service.url}/metrics?event_name=`);
          assertRefused(open, 400, 'validation_error');
          service.signal('SIGTERM');
          assertRefused(await question, 503, 'draining');
          assert.equal(await service.exited, 0);
        } finally {
          process.kill(clickhouse.pid, 'SIGCONT');
        }
      },
    );
  });
});
