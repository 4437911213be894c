import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertAccepted, assertRefused, event, postBulk, postEvent, send, TIMESTAMP } from '../support/requests.js';
import { Service, until } from '../support/service.js';
import { requestBytes, Wire } from '../support/wire.js';

/** api.md under load: a large body or a slow reader holds up nobody else, and what is too much is refused until it is not. */

async function gauge(service: Service, name: string): Promise<number> {
  const { text } = await send(`${service.adminUrl}/metrics`);
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

describe('one very large bulk body', () => {
  const EVENTS = 150_000;
  let service: Service;
  before(async () => {
    // One encoder: what holds it up holds up everyone.
    service = await Service.start({
      env: {
        PENSTOCK_BULK_MAX_EVENTS: String(EVENTS),
        PENSTOCK_ENCODER_THREADS: '1',
        PENSTOCK_DRAIN_TIMEOUT_MS: '30000',
      },
    });
  });
  after(() => service.dispose());

  /** Every tenth event is refused, so that the answer is not all of one kind. */
  const events = Array.from(
    { length: EVENTS },
    (_, i) => `{"event_name":"s","channel":"${i % 10 === 9 ? 'x' : 'web'}","user_id":"u${i}","timestamp":${TIMESTAMP}}`,
  );
  const body = events.join('\n');

  test('does not hold up single events that come after it', async () => {
    const answered: string[] = [];
    const bulk = postBulk(service, body, { prefer: 'return=minimal' }).then((answer) => {
      answered.push('bulk');
      return answer;
    });
    await until(async () => (await gauge(service, 'penstock_body_bytes')) >= body.length, 'the whole body is there');
    // One after the other: were one held up, it would be the only one that is answered before the bulk body.
    while (!answered.includes('bulk')) {
      assertAccepted(await postEvent(service, event({ user_id: `single_${answered.length}` })));
      answered.push('single');
    }
    assert.equal((await bulk).body.accepted, EVENTS * 0.9);
    assert.ok(answered.indexOf('bulk') >= 3, answered.join(' '));
  });

  test('has an answer of megabytes that arrives whole, however slowly it is read, while others are served and after it', async () => {
    const slow = await Wire.connect(service.url);
    slow.pause();
    slow.write(requestBytes('POST', '/events/bulk', { body }));
    while (slow.unread.length < 1_000_000) await slow.sip();
    for (let i = 0; i < 50; i += 1) assertAccepted(await postEvent(service, event({ user_id: `beside_${i}` })));
    while (slow.unread.length < 3_000_000) await slow.sip();
    slow.resume();
    const answer = await slow.answer();
    assert.equal(answer.status, 202);
    const expected = await postBulk(service, body);
    assert.ok(expected.text.length > 5_000_000);
    assert.ok(answer.body.equals(Buffer.from(expected.text)));
    slow.write(requestBytes('POST', '/events', { body: JSON.stringify(event()) }));
    assert.equal((await slow.answer()).status, 202);
    await slow.end();
  });

  test('has an answer that counts against the limits until it is read, and that the end of the process waits for', async () => {
    const [slow, gone] = [await Wire.connect(service.url), await Wire.connect(service.url)];
    for (const wire of [gone, slow]) {
      wire.pause();
      const answered = await gauge(service, 'penstock_events_accepted_total');
      wire.write(requestBytes('POST', '/events/bulk', { body }));
      await until(
        async () => (await gauge(service, 'penstock_events_accepted_total')) === answered + EVENTS * 0.9,
        'the answer is on its way',
      );
      assert.equal(await gauge(service, 'penstock_requests_open'), 1);
      assert.ok((await gauge(service, 'penstock_body_bytes')) > 5_000_000);
      if (wire === slow) break;
      wire.reset();
      await until(async () => (await gauge(service, 'penstock_requests_open')) === 0, 'who has gone is forgotten');
      assert.equal(await gauge(service, 'penstock_body_bytes'), 0);
    }
    service.signal('SIGTERM');
    await until(async () => (await send(`${service.adminUrl}/ready`)).status === 503, 'the process is ending');
    while (slow.unread.length < 1_000_000) await slow.sip();
    slow.resume();
    const answer = await slow.answer();
    assert.equal(answer.status, 202);
    assert.ok(answer.body.toString().endsWith(']}'));
    assert.equal(await service.exited, 0);
  });
});

describe('more than there is room for', () => {
  let service: Service;
  before(async () => {
    service = await Service.start({
      env: {
        PENSTOCK_BODY_MAX_BYTES: '1MiB',
        PENSTOCK_IN_FLIGHT_MAX_BYTES: '2MiB',
        PENSTOCK_IN_FLIGHT_MAX_REQUESTS: '20',
      },
    });
  });
  after(() => service.dispose());

  const one = event({ event_name: 'room' });

  test('requests beyond the limit are refused as overloaded, and taken again when others have gone', async () => {
    const half = requestBytes('POST', '/events', { body: JSON.stringify(one) });
    const wires = await Promise.all(Array.from({ length: 20 }, () => Wire.connect(service.url)));
    for (const wire of wires) wire.write(half.subarray(0, half.length - 1));
    await until(async () => (await gauge(service, 'penstock_requests_open')) === 20, 'twenty requests are open');
    assertRefused(await postEvent(service, one), 503, 'overloaded');
    assertRefused(await postBulk(service, JSON.stringify([one])), 503, 'overloaded');
    assert.equal((await send(`${service.url}/health`)).status, 200);
    // Half of them go on, the others hang up.
    for (const [i, wire] of wires.entries()) {
      if (i % 2 === 0) wire.write(half.subarray(half.length - 1));
      else wire.reset();
    }
    for (const [i, wire] of wires.entries()) {
      if (i % 2 === 0) assert.equal((await wire.answer()).status, 202);
      await wire.end();
    }
    await until(async () => (await gauge(service, 'penstock_requests_open')) === 0, 'no request is open');
    assertAccepted(await postEvent(service, one));
  });

  test('bytes beyond the limit are refused as overloaded, and taken again when others have gone', async () => {
    const length = 1024 * 1024;
    const head = requestBytes('POST', '/events/bulk', { headers: { 'Content-Length': String(length) } });
    const spaces = Buffer.alloc(900 * 1024, 0x20);
    const rest = JSON.stringify([one]).padStart(length - spaces.length);
    const wires = await Promise.all(Array.from({ length: 3 }, () => Wire.connect(service.url)));
    const [first, second, third] = wires;
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    for (const wire of [first, second]) wire.write(Buffer.concat([head, spaces]));
    await until(
      async () => (await gauge(service, 'penstock_body_bytes')) === 2 * spaces.length,
      'two bodies are there',
    );
    third.write(Buffer.concat([head, spaces]));
    const refused = await third.answer();
    assert.equal(refused.status, 503);
    assert.match(refused.headers.get('retry-after') ?? '', /^[1-9]\d*$/);
    // What the third had is given back, and small events find their place.
    assertAccepted(await postEvent(service, one));
    third.write(rest);
    for (const wire of [first, second]) {
      wire.write(rest);
      assert.equal((await wire.answer()).status, 202);
    }
    // The rest of the refused body was skipped: the connection is in step.
    third.write(Buffer.concat([head, spaces, Buffer.from(rest)]));
    assert.equal((await third.answer()).status, 202);
    for (const wire of wires) await wire.end();
    assert.equal(await gauge(service, 'penstock_body_bytes'), 0);
  });
});
