import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertAccepted, event, postBulk, postEvent, TIMESTAMP } from '../support/requests.js';
import { Service } from '../support/service.js';
import { requestBytes, Wire } from '../support/wire.js';

/** An answer that no buffer of the system holds arrives whole, however slowly it is read, and holds up nobody else. */

const EVENTS = 150_000;

let service: Service;
before(async () => {
  service = await Service.start({ env: { PENSTOCK_BULK_MAX_EVENTS: String(EVENTS) } });
});
after(() => service.dispose());

/** Every tenth event is refused, so that the answer is not all of one kind. */
function bulkBody(): string {
  const lines: string[] = [];
  for (let i = 0; i < EVENTS; i += 1) {
    lines.push(
      `{"event_name":"s","channel":"${i % 10 === 9 ? 'x' : 'web'}","user_id":"u${i}","timestamp":${TIMESTAMP}}`,
    );
  }
  return lines.join('\n');
}

test('answers of several megabytes arrive whole, while others are served and after them', async () => {
  const body = bulkBody();
  const expected = await postBulk(service, body);
  assert.equal(expected.body.accepted, EVENTS * 0.9);
  assert.ok(expected.text.length > 5_000_000);

  const slow = await Wire.connect(service.url);
  const gone = await Wire.connect(service.url);
  for (const wire of [slow, gone]) {
    wire.pause();
    wire.write(requestBytes('POST', '/events/bulk', { body }));
  }
  while (slow.unread.length < 1_000_000) await slow.sip();
  gone.reset();
  for (let i = 0; i < 50; i += 1) assertAccepted(await postEvent(service, event({ user_id: `beside_${i}` })));
  while (slow.unread.length < 3_000_000) await slow.sip();
  slow.resume();
  const answer = await slow.answer();
  assert.equal(answer.status, 202);
  assert.ok(answer.body.equals(Buffer.from(expected.text)));
  slow.write(requestBytes('POST', '/events', { body: JSON.stringify(event()) }));
  assert.equal((await slow.answer()).status, 202);
  await slow.end();
});
