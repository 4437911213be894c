import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DETAILS_MAX } from '../../../../src/shared/limits.js';
import { EventFault, EventValidator, type ValidEvent } from '../../../../src/workers/encoder/validate.js';
import { anyEvent, layOut } from '../../../support/event-text.js';
import { anyBytes, isJson, mutated } from '../../../support/mutate.js';
import { tries } from '../../../support/property.js';

const NOW_S = 1_800_000_000;
const validator = new EventValidator({ channels: ['web', 'mobile', 'api'], futureToleranceS: 60 });
const GOOD = { event_name: 'view', channel: 'web', user_id: 'u1', timestamp: 1_723_475_612 };

function validate(text: string | Buffer, key = ''): ValidEvent | EventFault {
  const bytes = Buffer.from(text);
  const around = Buffer.concat([Buffer.from('{"metadata":'), bytes, Buffer.from('"}]')]);
  return validator.validate(around, 12, 12 + bytes.length, NOW_S * 1000, key);
}

function accepted(text: string | Buffer, key = ''): ValidEvent {
  const outcome = validate(text, key);
  if (outcome instanceof EventFault) assert.fail(`${outcome.error}: ${Buffer.from(text).toString().slice(0, 200)}`);
  return outcome;
}

function refused(text: string | Buffer, key = ''): EventFault {
  const outcome = validate(text, key);
  assert.ok(outcome instanceof EventFault, `accepted: ${Buffer.from(text).toString().slice(0, 200)}`);
  assert.equal(outcome.code, 'validation_error');
  assert.ok(outcome.details.length > 0 && outcome.details.length <= DETAILS_MAX);
  assert.ok(outcome.error.isWellFormed() && outcome.error.length < 2000, outcome.error);
  return outcome;
}

const good = (more: Readonly<Record<string, unknown>>): string => JSON.stringify({ ...GOOD, ...more });
const without = (name: string): string => JSON.stringify({ ...GOOD, [name]: undefined });
/** A text of GOOD with one more member, spelt as given. */
const spelt = (member: string): string => `${JSON.stringify(GOOD).slice(0, -1)},${member}}`;

/** What breaks a rule, where the error points, and what it says. Strings of 3-byte characters tell bytes from characters. */
const REFUSED: readonly (readonly [text: string, path: string, error: RegExp])[] = [
  [without('event_name'), '/event_name', /^event_name is required$/],
  [good({ event_name: '' }), '/event_name', /^event_name must be a string of 1–128 bytes/],
  [good({ event_name: 'a'.repeat(129) }), '/event_name', /^event_name must be .*128 bytes/],
  [good({ event_name: '€'.repeat(43) }), '/event_name', /^event_name must be .*128 bytes/],
  [good({ event_name: '*' }), '/event_name', /^event_name must be .*other than "\*"/],
  [good({ event_name: null }), '/event_name', /^event_name must be/],
  [good({ event_name: 5 }), '/event_name', /^event_name must be/],
  [without('channel'), '/channel', /^channel is required$/],
  [good({ channel: 'push' }), '/channel', /^channel must be one of web, mobile, api$/],
  [good({ channel: 'Web' }), '/channel', /^channel must be one of/],
  [good({ channel: '' }), '/channel', /^channel must be one of/],
  [good({ channel: ['web'] }), '/channel', /^channel must be one of/],
  [without('user_id'), '/user_id', /^user_id is required$/],
  [good({ user_id: '' }), '/user_id', /^user_id must be a string of 1–256 bytes/],
  [good({ user_id: '€'.repeat(86) }), '/user_id', /^user_id must be/],
  [good({ user_id: {} }), '/user_id', /^user_id must be/],
  [without('timestamp'), '/timestamp', /^timestamp is required$/],
  [good({ timestamp: '1723475612' }), '/timestamp', /^timestamp must be a positive integer, Unix seconds/],
  [good({ timestamp: 0 }), '/timestamp', /^timestamp must be/],
  [spelt('"timestamp":-0').replace('"timestamp":1723475612,', ''), '/timestamp', /^timestamp must be/],
  [good({ timestamp: -1 }), '/timestamp', /^timestamp must be/],
  [good({ timestamp: 1.5 }), '/timestamp', /^timestamp must be/],
  [good({ timestamp: null }), '/timestamp', /^timestamp must be/],
  [spelt('"timestamp":1e400').replace('"timestamp":1723475612,', ''), '/timestamp', /^timestamp must be/],
  [good({ timestamp: NOW_S + 61 }), '/timestamp', /^timestamp must be .*at most 60 s in the future/],
  [good({ timestamp: (NOW_S + 60) * 1000 + 1 }), '/timestamp', /^timestamp must be/],
  [good({ timestamp: 99_999_999_999 }), '/timestamp', /^timestamp must be/],
  [
    good({ campaign_id: 'c'.repeat(257) }),
    '/campaign_id',
    /^campaign_id must be null or a string of at most 256 bytes/,
  ],
  [good({ campaign_id: 7 }), '/campaign_id', /^campaign_id must be/],
  [good({ tags: 'a' }), '/tags', /^tags must be null or at most 64 strings of 1–128 bytes/],
  [good({ tags: {} }), '/tags', /^tags must be/],
  [good({ tags: Array.from({ length: 65 }, () => 'a') }), '/tags', /^tags must be/],
  [good({ tags: ['a', '', 'b'] }), '/tags/1', /^tags.1 must be/],
  [good({ tags: ['a', 'b', 3] }), '/tags/2', /^tags.2 must be/],
  [good({ tags: [null] }), '/tags/0', /^tags.0 must be/],
  [good({ tags: ['ok', 'a'.repeat(129)] }), '/tags/1', /^tags.1 must be/],
  [good({ tags: ['ok', '€'.repeat(43)] }), '/tags/1', /^tags.1 must be/],
  [good({ metadata: [] }), '/metadata', /^metadata must be null or an object of at most 16384 bytes as sent$/],
  [good({ metadata: [{ a: 1 }] }), '/metadata', /^metadata must be/],
  [good({ metadata: 'x' }), '/metadata', /^metadata must be/],
  [good({ metadata: 1 }), '/metadata', /^metadata must be/],
  [good({ metadata: { a: 'x'.repeat(16_384) } }), '/metadata', /^metadata must be/],
  [spelt(`"metadata":{${' '.repeat(16_383)}}`), '/metadata', /^metadata must be/],
  [good({ event_id: null }), '/event_id', /^event_id must be a UUID$/],
  [good({ event_id: '' }), '/event_id', /^event_id must be a UUID$/],
  [good({ event_id: '6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c1' }), '/event_id', /^event_id must be a UUID$/],
  [good({ event_id: '6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c11\n' }), '/event_id', /^event_id must be a UUID$/],
  [good({ event_id: '{6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c11}' }), '/event_id', /^event_id must be a UUID$/],
  [good({ userId: 1 }), '/userId', /^userId is not a member that an event has$/],
  [good({ 'a/b~c': 1 }), '/a~1b~0c', /^a\/b~c is not a member/],
  [spelt('"__proto__":{}'), '/__proto__', /^__proto__ is not a member/],
  [spelt('"toString":1'), '/toString', /^toString is not a member/],
  [spelt('"channel":"web"'), '/channel', /^channel is given twice$/],
  [spelt('"ch\\u0061nnel":"web"'), '/channel', /^channel is given twice$/],
  [spelt('"metadata":{"a":{"b":[1,{"c":1,"c":1}]}}'), '/metadata/a/b/1/c', /^metadata.a.b.1.c is given twice$/],
  [spelt('"metadata":{"__proto__":1,"__proto__":2}'), '/metadata/__proto__', /is given twice$/],
  [good({ user_id: '\ud800' }), '', /lone surrogate \(\\ud800\)/],
  [spelt('"metadata":{"\\uDC00":1}'), '', /lone surrogate/],
  ['[]', '', /must be a JSON object/],
  ['null', '', /must be a JSON object/],
  ['"event"', '', /must be a JSON object/],
  ['', '', /not valid JSON/],
  ['{', '', /not valid JSON/],
  [`${JSON.stringify(GOOD)} x`, '', /not valid JSON/],
];

test('every broken rule is refused with its field and the rule', () => {
  for (const [text, path, error] of REFUSED) {
    const fault = refused(text);
    assert.deepEqual(
      fault.details.map((detail) => detail.path),
      [path],
      text.slice(0, 200),
    );
    assert.match(fault.error, error, text.slice(0, 200));
  }
});

test('text that is no JSON is told from an event that is wrong', () => {
  for (const [text, , error] of REFUSED) assert.equal(refused(text).notJson, !isJson(text), `${error}`);
});

test('bytes that are no UTF-8 are refused, as no JSON where they stand outside a string', () => {
  const inside = Buffer.from(good({ user_id: 'aXb' }));
  inside[inside.indexOf('X')] = 0xff;
  assert.deepEqual([refused(inside).notJson, refused(inside).error], [false, 'the event is not valid UTF-8']);
  assert.equal(
    refused(
      Buffer.concat([Buffer.from(spelt('"metadata":{"a":')).subarray(0, -1), Buffer.from([0xff]), Buffer.from('}}')]),
    ).notJson,
    true,
  );
  // Overlong, surrogate, beyond Unicode, cut short.
  for (const bytes of [
    [0xc0, 0x80],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0xe2, 0x82],
  ]) {
    const at = inside.indexOf(0xff);
    refused(Buffer.concat([inside.subarray(0, at), Buffer.from(bytes), inside.subarray(at + 1)]));
  }
});

test('every bound is allowed itself', () => {
  const event = accepted(
    good({
      event_name: `${'€'.repeat(42)}ab`,
      user_id: '😀'.repeat(64),
      campaign_id: 'c'.repeat(256),
      tags: Array.from({ length: 64 }, () => `${'€'.repeat(42)}ab`),
      metadata: { a: 'x'.repeat(16_376) },
      timestamp: NOW_S + 60,
    }),
  );
  assert.equal(event.metadata.length, 16_384);
  assert.equal(event.timestampMs, (NOW_S + 60) * 1000);
  assert.equal(accepted(spelt(`"metadata":{${' '.repeat(16_382)}}`)).metadata.length, 2);
});

test('a timestamp is seconds below 10^11 and milliseconds from there on, in every spelling of the integer', () => {
  const at = (spelling: string): number =>
    accepted(`{"event_name":"a","channel":"web","user_id":"u","timestamp":${spelling}}`).timestampMs;
  assert.equal(at('1'), 1000);
  assert.equal(at('100000000000'), 100_000_000_000);
  for (const spelling of ['1723475612', '1723475612.0', '1.723475612e9', '1.723475612E+9', '17234756120e-1']) {
    assert.equal(at(spelling), 1_723_475_612_000);
  }
});

test('a number that only rounds to an integer is none, and a timestamp in metadata is nobody’s concern', () => {
  const text = (spelling: string): string =>
    `{"event_name":"a","metadata":{"timestamp":0.5},"channel":"web","user_id":"u","timestamp":${spelling}}`;
  for (const spelling of [
    '1723475612.00000001',
    '1723475612345.0001',
    '1.72347561200000001e9',
    '17234756120000001e-7',
  ]) {
    assert.equal(refused(text(spelling)).details[0]?.path, '/timestamp', spelling);
  }
  assert.equal(accepted(text('17234756120000000e-7')).timestampMs, 1_723_475_612_000);
  assert.equal(accepted(text('5').replace('"timestamp":5', '"time\\u0073tamp":5.0')).timestampMs, 5_000);
});

test('the header’s key stands for the id, and must be one and the same', () => {
  const id = '6F1C0A52-0b1e-4d8e-9a3b-2f4f5f1f7c11';
  const bytes = new Uint8Array(Buffer.from('6f1c0a520b1e4d8e9a3b2f4f5f1f7c11', 'hex'));
  assert.deepEqual(accepted(good({}), id).eventId, bytes);
  assert.deepEqual(accepted(good({ event_id: id })).eventId, bytes);
  assert.deepEqual(accepted(good({ event_id: id.toLowerCase() }), id.toUpperCase()).eventId, bytes);
  assert.equal(accepted(good({})).eventId, undefined);
  assert.match(
    refused(good({ event_id: id.replace('6', '7') }), id).error,
    /^event_id differs from the header Idempotency-Key$/,
  );
  assert.match(refused(good({}), 'order-17').error, /Idempotency-Key must be a UUID/);
});

test('all that is wrong is told at once, up to a bound', () => {
  const fault = refused('{"event_name":"","channel":"x","tags":[""],"more":1}');
  assert.deepEqual(
    fault.details.map(({ path }) => path),
    ['/event_name', '/channel', '/user_id', '/timestamp', '/tags/0', '/more'],
  );
  const many = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`${'😀'.repeat(500)}${i}`, 1]));
  assert.equal(refused(good(many)).details.length, DETAILS_MAX);
});

test('any valid event is accepted in any layout, with the values that JSON.parse gives', () => {
  const known = anyEvent.filter(({ channel }) => ['web', 'mobile', 'api'].includes(channel));
  fc.assert(
    fc.property(known, fc.infiniteStream(fc.nat()), (event, numbers) => {
      const { eventName, channel, userId, timestampMs, campaignId, tags, metadata, eventId } = accepted(
        layOut(event, numbers),
      );
      const metadataText =
        event.metadata === undefined || event.metadata === null ? '' : JSON.stringify(event.metadata);
      assert.deepEqual(
        {
          eventName,
          channel,
          userId,
          timestampMs,
          campaignId,
          tags,
          metadata: Buffer.from(metadata).toString(),
          eventId,
        },
        {
          eventName: event.event_name,
          channel: event.channel,
          userId: event.user_id,
          timestampMs: event.timestamp >= 1e11 ? event.timestamp : event.timestamp * 1000,
          campaignId: event.campaign_id ?? '',
          tags: event.tags ?? [],
          metadata: metadataText,
          eventId: undefined,
        },
      );
    }),
    tries(300),
  );
});

test('any bytes are accepted only where JSON.parse takes them, and nothing throws', () => {
  const nearly = mutated(
    fc.tuple(anyEvent, fc.infiniteStream(fc.nat())).map(([event, numbers]) => layOut(event, numbers)),
  );
  fc.assert(
    fc.property(fc.oneof({ weight: 3, arbitrary: nearly }, { weight: 1, arbitrary: anyBytes }), (bytes) => {
      const outcome = validate(bytes);
      const text = bytes.toString();
      if (outcome instanceof EventFault) {
        assert.equal(outcome.notJson, !isJson(text));
        return;
      }
      assert.ok(isJson(text) && Buffer.from(text).equals(bytes));
      if (outcome.metadata.length > 0) assert.ok(isJson(Buffer.from(outcome.metadata).toString()));
    }),
    tries(1000),
  );
});

test('text nested deeper than any event is refused without being parsed', () => {
  const deep = `{"metadata":${'['.repeat(3_000_000)}`;
  assert.match(refused(deep).error, /nested deeper/);
});
