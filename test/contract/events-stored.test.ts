import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import {
  type Answered,
  assertAccepted,
  assertInvalid,
  DERIVED_ID,
  event,
  metrics,
  postBulk,
  postEvent,
  storedRows,
  TIMESTAMP,
} from '../support/requests.js';
import { Service } from '../support/service.js';

/** api.md, "Identity", `event_id` and `Idempotency-Key`; and that what ClickHouse has is what was sent. */

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.dispose());

const post = (members: Readonly<Record<string, unknown>>, headers: Record<string, string> = {}): Promise<Answered> =>
  postEvent(service, event(members), headers);

async function totals(eventName: string): Promise<{ total: number | undefined; users: number | undefined }> {
  await service.settled();
  const { body } = await metrics(service, { event_name: eventName });
  return { total: body.total_events, users: body.unique_users };
}

describe('what is stored', () => {
  test('is every field as it was sent', async () => {
    const sent = {
      event_name: 'stored "every" field\n\t\\ 😀\u0000',
      channel: 'push',
      user_id: 'пользователь/1',
      timestamp: 1_723_475_612_345,
      campaign_id: 'cmp_987 €',
      tags: ['b', 'a', 'b', 'тег', '😀'],
      metadata: { product_id: 'prod-789', price: 129.99, nested: { list: [1, null, 'x'] } },
      event_id: randomUUID(),
    };
    assertAccepted(await postEvent(service, sent));
    const { metadata, timestamp, ...rest } = sent;
    assert.deepEqual(await storedRows(service, sent.event_name), [
      { ...rest, ts: timestamp, metadata: JSON.stringify(metadata) },
    ]);
  });

  test('is the text of metadata, without white space outside strings and with numbers as they were spelled', async () => {
    const body = `{"event_name":"metadata_text","channel":"web","user_id":"u","timestamp":${TIMESTAMP},
      "metadata": {  "b" : 1.50 ,\t"a": [ 1e3,\r\n -0.0, 12345678901234567890 ], "s p": " two  spaces \\t \\u0041 \\/ é", "e":{ } } }`;
    assertAccepted(await postEvent(service, body));
    const [row] = await storedRows(service, 'metadata_text');
    assert.equal(
      row?.metadata,
      '{"b":1.50,"a":[1e3,-0.0,12345678901234567890],"s p":" two  spaces \\t \\u0041 \\/ é","e":{}}',
    );
  });

  test('is nothing where an optional field is absent, null or empty, and {} where metadata is an empty object', async () => {
    assertAccepted(await post({ event_name: 'optional' }));
    assertAccepted(await post({ event_name: 'optional', metadata: {} }));
    const rows = await storedRows(service, 'optional');
    const stored = rows.map(({ campaign_id, tags, metadata }) => ({ campaign_id, tags, metadata }));
    assert.deepEqual(stored, [
      { campaign_id: '', tags: [], metadata: '' },
      { campaign_id: '', tags: [], metadata: '{}' },
    ]);
  });

  test('is the largest event there can be, whole', async () => {
    const sent = {
      event_name: '😀'.repeat(32),
      channel: 'mobile',
      user_id: '€'.repeat(85),
      timestamp: TIMESTAMP,
      campaign_id: 'c'.repeat(256),
      tags: Array.from({ length: 64 }, (_, i) => String(i).padStart(2, '0') + 'é'.repeat(63)),
      metadata: { k: 'v'.repeat(16_384 - 8) },
    };
    const id = assertAccepted(await postEvent(service, sent));
    const { metadata, timestamp, ...rest } = sent;
    assert.deepEqual(await storedRows(service, sent.event_name), [
      { ...rest, event_id: id, ts: timestamp * 1000, metadata: JSON.stringify(metadata) },
    ]);
  });

  test('is to the millisecond, from 1970 to now', async () => {
    const now = Date.now();
    const timestamps = [1, 86_400, 99_999_999, 1e11, 1_577_836_799_999, 1_577_836_800_000, 1_723_475_612_001, now];
    for (const timestamp of timestamps) assertAccepted(await post({ event_name: 'moments', timestamp }));
    const rows = await storedRows(service, 'moments');
    assert.deepEqual(
      rows.map(({ ts }) => ts),
      timestamps.map((timestamp) => (timestamp >= 1e11 ? timestamp : timestamp * 1000)),
    );
  });
});

describe('a derived id', () => {
  test('is a UUID of version 8, the same for the same event in any layout, which counts once', async () => {
    const name = 'layouts';
    const texts = [
      `{"event_name":"${name}","channel":"web","user_id":"u é","timestamp":1723475612,"metadata":{"a":[1,2],"b":"x y"}}`,
      `{\n "metadata" : { "a" : [ 1 , 2 ] , "b" : "x y" } ,\n "timestamp" : 1723475612 , "user_id" : "u é", "channel":"web", "event_name":"${name}"\n}\n`,
      `{"event_name":"${name}","channel":"web","user_id":"u \\u00e9","timestamp":1.723475612e9,"tags":[],"campaign_id":"","metadata":{"a":[1,2],"b":"x y"}}`,
      `{"event_name":"${name}","channel":"web","user_id":"u é","timestamp":1723475612000,"tags":null,"campaign_id":null,"metadata":{"a":[1,2],"b":"x y"}}`,
    ];
    const ids = await Promise.all(texts.map(async (text) => assertAccepted(await postEvent(service, text))));
    const bulk = await postBulk(service, texts.join('\n').replaceAll('\n ', ' ').replaceAll('\n}', '}'), {
      'content-type': 'application/x-ndjson',
    });
    for (const id of bulk.body.event_ids ?? []) ids.push(id ?? '');
    assert.equal(ids.length, 8);
    assert.match(ids[0] ?? '', DERIVED_ID);
    assert.deepEqual(new Set(ids).size, 1, ids.join(' '));
    assert.deepEqual(await totals(name), { total: 1, users: 1 });
  });

  test('differs where any field differs, and both count', async () => {
    const base = { event_name: 'differs', campaign_id: 'c', tags: ['a', 'b'], metadata: { a: 1, b: 2 } };
    const variants: Record<string, unknown>[] = [
      {},
      { channel: 'api' },
      { user_id: 'user_2' },
      { campaign_id: 'd' },
      { campaign_id: undefined },
      { timestamp: TIMESTAMP + 1 },
      { timestamp: TIMESTAMP * 1000 + 1 },
      { tags: ['b', 'a'] },
      { tags: ['ab'] },
      { tags: ['a', 'b', 'b'] },
      { tags: undefined },
      { metadata: { b: 2, a: 1 } },
      { metadata: { a: 1, b: '2' } },
      { metadata: {} },
      { metadata: undefined },
      // A field's end belongs to the field.
      { user_id: 'user_1c', campaign_id: '' },
    ];
    const ids = await Promise.all(variants.map(async (variant) => assertAccepted(await post({ ...base, ...variant }))));
    const spelled = `{"event_name":"differs","channel":"web","user_id":"user_1","timestamp":${TIMESTAMP},"metadata":{"a":1.0,"b":2}}`;
    ids.push(assertAccepted(await postEvent(service, spelled)));
    assert.equal(new Set(ids).size, variants.length + 1);
    assert.deepEqual(await totals('differs'), { total: variants.length + 1, users: 3 });
  });

  test('is the same on another instance', async () => {
    const other = await Service.start();
    try {
      const sent = event({ event_name: 'elsewhere', tags: ['x'], metadata: { a: 1.5 } });
      assert.equal(assertAccepted(await postEvent(other, sent)), assertAccepted(await postEvent(service, sent)));
    } finally {
      await other.dispose();
    }
  });
});

describe('event_id and Idempotency-Key', () => {
  test('the same event_id, event_name and timestamp count once, and the version received last counts', async () => {
    const event_id = randomUUID();
    for (const [channel, user_id] of [
      ['web', 'first'],
      ['email', 'second'],
      ['api', 'last'],
    ]) {
      assert.equal(assertAccepted(await post({ event_name: 'versions', event_id, channel, user_id })), event_id);
    }
    assert.deepEqual(await totals('versions'), { total: 1, users: 1 });
    const { body } = await metrics(service, { event_name: 'versions', group_by: 'channel' });
    assert.deepEqual(body.data, [{ group: 'api', total_events: 1, unique_users: 1 }]);
  });

  test('the version received last counts within one bulk body too', async () => {
    const event_id = randomUUID();
    const events = ['web', 'push', 'email'].map((channel) => event({ event_name: 'bulk_versions', event_id, channel }));
    assert.equal((await postBulk(service, JSON.stringify(events))).body.accepted, 3);
    await service.settled();
    const { body } = await metrics(service, { event_name: 'bulk_versions', group_by: 'channel' });
    assert.deepEqual(body.data, [{ group: 'email', total_events: 1, unique_users: 1 }]);
  });

  test('another event_name or timestamp is another event', async () => {
    const event_id = randomUUID();
    assertAccepted(await post({ event_name: 'identity_a', event_id }));
    assertAccepted(await post({ event_name: 'identity_a', event_id, timestamp: TIMESTAMP + 1 }));
    assertAccepted(await post({ event_name: 'identity_b', event_id }));
    assert.deepEqual(await totals('identity_a'), { total: 2, users: 1 });
    assert.deepEqual(await totals('identity_b'), { total: 1, users: 1 });
  });

  test('the header is the event_id where there is none in the body', async () => {
    const key = randomUUID();
    assert.equal(assertAccepted(await post({ event_name: 'keyed' }, { 'Idempotency-Key': key })), key);
    assert.equal(assertAccepted(await post({ event_name: 'keyed' }, { 'idempotency-key': key.toUpperCase() })), key);
    assert.equal(
      assertAccepted(await post({ event_name: 'keyed', event_id: key }, { 'Idempotency-Key': key.toUpperCase() })),
      key,
    );
    assert.equal(assertAccepted(await post({ event_name: 'keyed', event_id: key })), key);
    assert.deepEqual(await totals('keyed'), { total: 1, users: 1 });
  });

  test('the header is refused where it is no UUID, and where it differs from the body', async () => {
    const id = randomUUID();
    for (const key of ['x', '1', id.slice(1), `${id}0`, `${id}${'0'.repeat(500)}`, `"${id}"`, 'éx', 'k'.repeat(4000)]) {
      assertInvalid(await post({}, { 'Idempotency-Key': key }), '/event_id');
      assertInvalid(await post({ event_id: id }, { 'Idempotency-Key': key }), '/event_id');
    }
    assertInvalid(await post({ event_id: id }, { 'Idempotency-Key': randomUUID() }), '/event_id');
  });

  test('the header is ignored on bulk', async () => {
    const events = [event({ user_id: 'a' }), event({ user_id: 'b', event_id: randomUUID() })];
    const plain = await postBulk(service, JSON.stringify(events));
    for (const key of [randomUUID(), 'nonsense']) {
      const keyed = await postBulk(service, JSON.stringify(events), { 'Idempotency-Key': key });
      assert.equal(keyed.status, 202);
      assert.deepEqual(keyed.body.event_ids, plain.body.event_ids);
    }
  });
});
