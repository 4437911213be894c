import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { assertRefused, type Answered, postBulk, postEvent } from '../support/requests.js';
import { Service, until } from '../support/service.js';

let clickhouse: TestClickHouse;
let service: Service;
before(async () => {
  clickhouse = await startTestClickHouse();
  service = await Service.start({
    nodeArgs: ['--import', new URL('../support/encoder-killer.js', import.meta.url).href],
    env: {
      PENSTOCK_ENCODER_THREADS: '1',
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

const killer = (name: string): string =>
  `{"ev\\u0065nt_name":"killer ${name}","channel":"web","user_id":"ends the thread that reads it","timestamp":1700000000}`;

/** More than an encoder's ring takes: it goes through the one slot for large bodies. */
function largeBody(name: string, last: string): string {
  const text = 'x'.repeat(8_000);
  const events = Array.from(
    { length: 200 },
    (_, i) =>
      `{"event_name":"${name}","channel":"web","user_id":"u${i}","timestamp":1700000000,"metadata":{"text":"${text}"}}`,
  );
  return `[${[...events, last].join(',')}]`;
}

async function openRequests(): Promise<number> {
  const response = await fetch(`${service.adminUrl}/metrics`);
  return Number(/^penstock_requests_open (\d+)$/m.exec(await response.text())?.[1]);
}

test(
  'large bodies that wait on main while the only encoder dies are worked off by the next',
  { timeout: 180_000 },
  async () => {
    // The more have died in a row, the longer is the pause before the next starts: long enough here for bodies to wait in it.
    for (let i = 0; i < 6; i += 1) {
      let answer: Answered | undefined;
      // Between two encoders a single event is refused, which a retry mends.
      const tried = async (): Promise<boolean> =>
        (answer = await postEvent(service, killer(`small ${i}`))).status !== 503;
      await until(tried, 'an encoder is there', 60_000);
      assert.equal(answer?.status, 500, answer?.text);
    }
    const last = postBulk(service, largeBody('beside', killer('large')));
    const waiting: Promise<Answered>[] = [];
    for (const name of ['one', 'two', 'three'])
      waiting.push(postBulk(service, largeBody(name, killer('x').replace('ends the', 'spares the'))));
    const answers = Promise.all(waiting);
    assertRefused(await last, 500, 'internal_error');
    // Nobody else asks for anything meanwhile: the new encoder alone must set them going.
    for (const answer of await answers) assert.equal(answer.body.accepted, 201, answer.text);
    await until(async () => (await openRequests()) === 0, 'no request is left open');
  },
);
