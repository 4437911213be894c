import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SEGMENT_MAX_BYTES } from '../../src/shared/limits.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { event, metrics, postBulk } from '../support/requests.js';
import { Service, until } from '../support/service.js';

/** What does not wait for the flush interval, here ten minutes: a segment that is full, and a log that soon would be. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

async function withService(
  env: Readonly<Record<string, string>>,
  work: (service: Service) => Promise<void>,
): Promise<void> {
  const service = await Service.start({
    env: {
      PENSTOCK_CLICKHOUSE_URL: clickhouse.url,
      PENSTOCK_CLICKHOUSE_USER: clickhouse.user,
      PENSTOCK_CLICKHOUSE_PASSWORD: clickhouse.password,
      PENSTOCK_CLICKHOUSE_DATABASE: clickhouse.unusedDatabase(),
      PENSTOCK_FLUSH_INTERVAL_MS: '600000',
      // What is left at the end need not be shipped.
      PENSTOCK_DRAIN_TIMEOUT_MS: '100',
      ...env,
    },
  });
  try {
    await work(service);
  } finally {
    await service.dispose();
  }
}

async function untilShipped(service: Service, name: string): Promise<void> {
  await until(
    async () => ((await metrics(service, { event_name: name })).body.total_events ?? 0) > 0,
    'events are shipped',
    60_000,
  );
}

test('a segment that is full is shipped at once, though the flush interval is far from over', async () => {
  await withService({}, async (service) => {
    const metadata = { text: 'x'.repeat(16_000) };
    let sent = 0;
    for (let body = 0; sent <= SEGMENT_MAX_BYTES; body += 1) {
      const events = Array.from({ length: 900 }, (_, i) =>
        event({ event_name: 'full', user_id: `u${body}_${i}`, metadata }),
      );
      const text = JSON.stringify(events);
      const answer = await postBulk(service, text, { prefer: 'return=minimal' });
      assert.equal(answer.body.accepted, events.length, answer.text);
      sent += events.length * 16_000;
    }
    await untilShipped(service, 'full');
  });
});

test('a small log is shipped before it is at its limit, though the flush interval is far from over', async () => {
  await withService({ PENSTOCK_WAL_MAX_BYTES: '1MiB' }, async (service) => {
    const metadata = { text: 'x'.repeat(4_000) };
    const events = Array.from({ length: 80 }, (_, i) => event({ event_name: 'small', user_id: `u${i}`, metadata }));
    const answer = await postBulk(service, JSON.stringify(events));
    assert.equal(answer.status, 202, answer.text);
    await untilShipped(service, 'small');
    // And so on, many times over what the log holds.
    for (let body = 0; body < 10; body += 1) {
      const more = JSON.stringify(events.map((each) => ({ ...each, campaign_id: `c${body}` })));
      await until(async () => (await postBulk(service, more)).status === 202, 'there is room in the log', 60_000);
    }
  });
});
