import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Answered, assertAccepted, event, metrics, postBulk, postEvent, send } from '../support/requests.js';
import { removeDirectory, Service, temporaryDirectory, until } from '../support/service.js';
import { requestBytes, Wire } from '../support/wire.js';

/** api.md, "Process": how it ends, and that nothing which was acknowledged ends with it. */

/** Runs `work` on a data directory that outlives the services on it; those that are left running are ended. */
async function onDirectory(
  work: (start: (env?: Record<string, string>) => Promise<Service>) => Promise<void>,
): Promise<void> {
  const dataDir = temporaryDirectory();
  const services: Service[] = [];
  try {
    await work(async (env = {}) => {
      const service = await Service.start({ dataDir, env });
      services.push(service);
      return service;
    });
  } finally {
    for (const service of services) await service.dispose();
    await removeDirectory(dataDir);
  }
}

async function total(service: Service, eventName: string): Promise<number | undefined> {
  await service.settled();
  return (await metrics(service, { event_name: eventName })).body.total_events;
}

const isNotReady = async (url: string): Promise<boolean> => (await send(`${url}/ready`)).status === 503;

async function refusesConnections(url: string): Promise<boolean> {
  try {
    await (await Wire.connect(url)).end();
    return false;
  } catch {
    return true;
  }
}

const parsed = (body: Buffer): Answered['body'] => JSON.parse(body.toString()) as Answered['body'];

describe('SIGTERM', () => {
  test('drains: serves and says close, then refuses, answers what it had begun, and exits 0 with everything stored', async () => {
    await onDirectory(async (start) => {
      const service = await start({ PENSTOCK_DRAIN_DELAY_MS: '3000', PENSTOCK_DRAIN_TIMEOUT_MS: '20000' });
      const bytes = requestBytes('POST', '/events', {
        body: JSON.stringify(event({ event_name: 'drain', user_id: 'half' })),
      });
      const half = await Wire.connect(service.url);
      const open = await Wire.connect(service.url);
      const asking = await Wire.connect(service.url);
      for (const wire of [open, asking]) {
        wire.write(requestBytes('GET', '/health'));
        assert.equal((await wire.answer()).headers.get('connection'), undefined);
      }
      half.write(bytes.subarray(0, bytes.length - 10));
      assertAccepted(await postEvent(service, event({ event_name: 'drain', user_id: 'before' })));

      service.signal('SIGTERM');
      await until(() => isNotReady(service.adminUrl), 'readiness is gone');
      assert.deepEqual(Object.keys((await send(`${service.url}/ready`)).body.checks ?? {}), ['shutdown']);
      const during = await postEvent(service, event({ event_name: 'drain', user_id: 'during' }));
      assertAccepted(during);
      const answers = [
        during,
        await postEvent(service, '{}'),
        await postEvent(service, '{}', { 'content-encoding': 'nonsense' }),
        await postBulk(service, [JSON.stringify(event({ event_name: 'drain', user_id: 'bulk' })), '{}'].join('\n')),
        await metrics(service, { event_name: 'drain' }),
        await metrics(service, { nonsense: '1' }),
        await send(`${service.url}/health`),
        await send(`${service.url}/ready`),
        await send(`${service.url}/openapi.json`),
        await send(`${service.url}/nothing`),
        await send(`${service.url}/events`),
      ];
      const statuses = [202, 400, 415, 202, 200, 400, 200, 503, 200, 404, 405];
      assert.deepEqual(
        answers.map(({ status, headers }) => [status, headers.get('connection')]),
        statuses.map((status) => [status, 'close']),
      );

      await until(() => refusesConnections(service.url), 'the listener is closed');
      open.write(
        requestBytes('POST', '/events', { body: JSON.stringify(event({ event_name: 'drain', user_id: 'late' })) }),
      );
      asking.write(requestBytes('GET', '/metrics?event_name=a'));
      for (const wire of [open, asking]) {
        const late = await wire.answer();
        assert.deepEqual([late.status, parsed(late.body).code], [503, 'draining']);
        assert.match(late.headers.get('retry-after') ?? '', /^[1-9]\d*$/);
        assert.equal(late.headers.get('connection'), 'close');
        await wire.untilEnded();
      }

      half.write(bytes.subarray(bytes.length - 10));
      assert.equal((await half.answer()).status, 202);
      assert.equal(await service.exited, 0);

      const next = await start();
      assert.equal(await total(next, 'drain'), 4);
      const { body } = await metrics(next, { event_name: 'drain' });
      assert.equal(body.unique_users, 4);
    });
  });

  test('and SIGINT alike: a request whose body never comes is answered 503, and does not hold up the end', async () => {
    await onDirectory(async (start) => {
      const service = await start({ PENSTOCK_DRAIN_TIMEOUT_MS: '1000' });
      const half = await Wire.connect(service.url);
      half.write(requestBytes('POST', '/events', { headers: { 'Content-Length': '500' } }));
      half.write('{"event_name"');
      await until(
        async () => (await send(`${service.adminUrl}/metrics`)).text.includes('penstock_requests_open 1'),
        'the request is open',
      );
      service.signal('SIGINT');
      const answer = await half.answer();
      assert.deepEqual([answer.status, parsed(answer.body).code], [503, 'draining']);
      assert.equal(await service.exited, 0);
    });
  });

  test('under load loses nothing that was acknowledged, and refuses the rest', async () => {
    await onDirectory(async (start) => {
      const service = await start();
      let acknowledged = 0;
      let stopping = false;
      const producer = async (name: string): Promise<void> => {
        const wire = await Wire.connect(service.url);
        for (let i = 0; ; i += 1) {
          wire.write(
            requestBytes('POST', '/events', {
              body: JSON.stringify(event({ event_name: 'load', user_id: `${name}_${i}` })),
            }),
          );
          // A connection that ends between two requests has not answered the second.
          const answer = await wire.answer().catch(() => undefined);
          if (answer?.status !== 202) {
            assert.ok(stopping);
            if (answer !== undefined) assert.equal(parsed(answer.body).code, 'draining');
            return;
          }
          acknowledged += 1;
          if (answer.headers.get('connection') === 'close') return;
        }
      };
      const producers = Array.from({ length: 16 }, (_, i) => producer(`p${i}`));
      await until(() => acknowledged > 500, 'the load is on');
      stopping = true;
      assert.equal(await service.stop(), 0);
      await Promise.all(producers);
      const next = await start();
      const counted = (await total(next, 'load')) ?? 0;
      // What had no answer may count as well.
      assert.ok(
        counted >= acknowledged && counted <= acknowledged + 16,
        `${acknowledged} acknowledged, ${counted} counted`,
      );
    });
  });

  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const) {
    test(`a second ${signal} exits at once with ${code}, and what was acknowledged is there at the next start`, async () => {
      await onDirectory(async (start) => {
        const service = await start({ PENSTOCK_DRAIN_DELAY_MS: '600000', PENSTOCK_FLUSH_INTERVAL_MS: '600000' });
        for (let i = 0; i < 20; i += 1)
          assertAccepted(await postEvent(service, event({ event_name: 'second', user_id: `u${i}` })));
        service.signal(signal);
        await until(() => isNotReady(service.adminUrl), 'readiness is gone');
        assertAccepted(await postEvent(service, event({ event_name: 'second', user_id: 'during' })));
        service.signal(signal);
        assert.equal(await service.exited, code);
        assert.equal(await total(await start(), 'second'), 21);
      });
    });
  }
});

describe('one data directory', () => {
  test('is refused to a second process, which names the first; the first goes on', async () => {
    await onDirectory(async (start) => {
      const first = await start();
      assertAccepted(await postEvent(first, event({ event_name: 'two', user_id: 'a' })));
      await assert.rejects(start(), (error: Error) => {
        assert.match(error.message, new RegExp(`\\b${first.pid}\\b`));
        assert.match(error.message, /in use/);
        return true;
      });
      assertAccepted(await postEvent(first, event({ event_name: 'two', user_id: 'b' })));
      assert.equal(await total(first, 'two'), 2);
      assert.equal(await first.stop(), 0);
      assert.equal(await total(await start(), 'two'), 2);
    });
  });
});
