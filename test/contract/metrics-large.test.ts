import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { event, metrics, postBulk, send, TIMESTAMP } from '../support/requests.js';
import { Service, until } from '../support/service.js';
import { requestBytes, Wire } from '../support/wire.js';

/** Large answers of one running service, out of memory, to several who ask at once: each gets its own, whole. */

const HOURS = 24 * 20;
const CHANNELS = ['api', 'mobile', 'web'];
/** Who asks for them at once. */
const NAMES = ['one', 'two', 'three'];

let service: Service;
before(async () => {
  service = await Service.start();
  // `two` has two users in each group, `three` has three.
  const events = NAMES.flatMap((name, at) =>
    Array.from({ length: HOURS * CHANNELS.length * (at + 1) }, (_, i) =>
      event({
        event_name: name,
        channel: CHANNELS[i % CHANNELS.length],
        user_id: `user_${Math.floor(i / CHANNELS.length) % (at + 1)}`,
        timestamp: TIMESTAMP + 3600 * Math.floor(i / CHANNELS.length / (at + 1)),
      }),
    ),
  );
  assert.equal((await postBulk(service, JSON.stringify(events))).body.accepted, events.length);
  await service.settled();
});
after(() => service.dispose());

function question(name: string): Record<string, string> {
  return { event_name: name, group_by: 'hour,channel', limit: '10000' };
}

async function fromMemory(): Promise<number> {
  const { text } = await send(`${service.adminUrl}/metrics`);
  return Number(/^penstock_metrics_answers_total\{source="cells"[^}]*\} (\d+)$/m.exec(text)?.[1] ?? 0);
}

/** What `name` must have, group by group. */
function expected(name: string): unknown[] {
  const users = NAMES.indexOf(name) + 1;
  return Array.from({ length: HOURS * CHANNELS.length }, (_, i) => ({
    group: {
      hour: new Date(3_600_000 * (Math.floor(TIMESTAMP / 3600) + Math.floor(i / CHANNELS.length)))
        .toISOString()
        .replace('.000', ''),
      channel: CHANNELS[i % CHANNELS.length],
    },
    total_events: users,
    unique_users: users,
  }));
}

test('large answers to fast and slow readers at once are each whole and of the question', async () => {
  // Until all that is needed is in memory.
  await until(async () => {
    const earlier = await fromMemory();
    for (const name of NAMES) await metrics(service, question(name));
    return (await fromMemory()) === earlier + NAMES.length;
  }, 'answers come out of memory');
  const from = await fromMemory();
  const slow = await Wire.connect(service.url);
  slow.pause();
  const query = new URLSearchParams(question('two')).toString();
  slow.write(requestBytes('GET', `/metrics?${query}`));
  const rounds = 15;
  await Promise.all(
    NAMES.map(async (name) => {
      const right = expected(name);
      for (let i = 0; i < rounds; i += 1) {
        const { body, text } = await metrics(service, question(name));
        assert.ok(text.length > 100_000);
        assert.deepEqual(body.data, right);
        await slow.sip();
      }
    }),
  );
  slow.resume();
  const answer = await slow.answer();
  assert.deepEqual((JSON.parse(answer.body.toString()) as { data: unknown }).data, expected('two'));
  assert.equal((await fromMemory()) - from, rounds * NAMES.length + 1);
  await slow.end();
});
