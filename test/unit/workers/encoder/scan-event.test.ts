import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { createForgottenUsers, ForgottenUsers } from '../../../../src/shared/forgotten-users.js';
import { Sink } from '../../../../src/shared/rowbinary.js';
import { EventEncoder } from '../../../../src/workers/encoder/event-encoder.js';
import { skipSpace, skipValue } from '../../../../src/workers/encoder/json-text.js';
import { EventScanner } from '../../../../src/workers/encoder/scan-event.js';
import { sipHash128 } from '../../../../src/shared/sip-hash.js';
import { EventFault } from '../../../../src/workers/encoder/validate.js';
import { JSON_TEXTS, mutate, Random } from '../../../support/json-texts.js';
import { tries } from '../../../support/property.js';

/** The scanner may hand back what it likes, but what it takes must be what the readable way makes of it, byte for byte. */

const OPTIONS = { channels: ['web', 'mobile', 'api', 'email', 'push', 'größe'], futureToleranceS: 60 };
const NOW_US = 1_764_000_000_000_000;
const CASES = Number(process.env['SCAN_CASES'] ?? 30_000);

const plainEncoder = new EventEncoder(OPTIONS);
/** Keeps 30 days, 2025-10-25 on, and has been told to forget. */
const forgotten = new ForgottenUsers(createForgottenUsers());
for (const id of ['usér_123', 'u', '"']) {
  forgotten.add({ crc32: crc32(id), hash: sipHash128(Buffer.from(id)) });
}
const keepingEncoder = new EventEncoder({ ...OPTIONS, retentionDays: 30 }, forgotten);
const EDGE_S = Date.UTC(2025, 9, 25) / 1000;
const scanner = new EventScanner(OPTIONS);
const fast = new Sink(Buffer.alloc(64 * 1024));
const readable = new Sink(Buffer.alloc(64 * 1024));

/** Between other bytes, as it stands in a ring or an NDJSON body. */
function surrounded(text: Buffer): { bytes: Buffer; start: number; end: number } {
  const before = Buffer.from('{"event_name":"x"}\n');
  const bytes = Buffer.concat([before, text, Buffer.from('}"}],"user_id":"u"}')]);
  return { bytes, start: before.length, end: before.length + text.length };
}

/** Holds both ways to the same verdict, bytes, id and messages; tells whether the scanner took the text. */
function compare(text: Buffer, about: string): boolean {
  const { bytes, start, end } = surrounded(text);
  compareIn(plainEncoder, bytes, start, end, about);
  compareIn(keepingEncoder, bytes, start, end, about);
  const isPlain = scanner.scan(bytes, start, end, NOW_US / 1000);
  const alone = Buffer.from(new Uint8Array(text).buffer);
  assert.equal(scanner.scan(alone, 0, alone.length, NOW_US / 1000), isPlain, `${about}: what stands around it decides`);
  // With the end unknown: where it takes a text, or only the beginning of it, that is the whole of a value.
  const isTaken = scanner.scanAhead(bytes, start, bytes.length, NOW_US / 1000);
  const { behind } = scanner;
  assert.ok(isTaken || !isPlain, about);
  if (isTaken) {
    assert.equal(skipValue(bytes, skipSpace(bytes, start, end), bytes.length), behind, `${about}: where it ends`);
    assert.ok(scanner.scan(bytes, start, behind, NOW_US / 1000), about);
  }
  return isPlain;
}

function compareIn(encoder: EventEncoder, bytes: Buffer, start: number, end: number, about: string): void {
  fast.at = 0;
  readable.at = 0;
  const one = encoder.encode(bytes, start, end, NOW_US, '', fast);
  const id = one instanceof EventFault ? undefined : Buffer.from(one).toString('hex');
  const other = encoder.encodeReadably(bytes, start, end, NOW_US, '', readable);
  if (one instanceof EventFault || other instanceof EventFault) {
    assert.deepEqual(one, other, about);
    assert.equal(fast.at, 0, `${about}: a refused event leaves the sink as it was`);
  } else {
    assert.equal(id, Buffer.from(other).toString('hex'), about);
    assert.ok(
      fast.buffer.subarray(0, fast.at).equals(readable.buffer.subarray(0, readable.at)),
      `${about}: rows differ`,
    );
  }
  compareAhead(encoder, bytes, start, about);
}

/** The end of the text unknown: what is taken is the same event that it is with its end known. */
function compareAhead(encoder: EventEncoder, bytes: Buffer, start: number, about: string): void {
  fast.at = 0;
  readable.at = 0;
  const one = encoder.encodeAhead(bytes, start, bytes.length, NOW_US, fast);
  if (one === undefined) {
    assert.equal(fast.at, 0, `${about}: an event that is not taken leaves the sink as it was`);
    return;
  }
  const id = Buffer.from(one).toString('hex');
  const other = encoder.encodeReadably(bytes, start, encoder.behind, NOW_US, '', readable);
  assert.ok(!(other instanceof EventFault), about);
  assert.equal(id, Buffer.from(other).toString('hex'), about);
  assert.ok(fast.buffer.subarray(0, fast.at).equals(readable.buffer.subarray(0, readable.at)), about);
}

const plainText = fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme' });
const event = fc.record(
  {
    event_name: fc.oneof(
      plainText,
      fc.constantFrom('*', '', 'x'.repeat(128), 'x'.repeat(129), 'ü'.repeat(64), 'ü'.repeat(65)),
    ),
    channel: fc.constantFrom('web', 'mobile', 'größe', 'w', 'webb', ''),
    user_id: fc.oneof(plainText, fc.constantFrom('u'.repeat(256), 'u'.repeat(257), '')),
    timestamp: fc.oneof(
      fc.integer({ min: 1, max: 1_764_000_060 }),
      fc.constantFrom(
        0,
        -1,
        1.5,
        1_764_000_061,
        EDGE_S,
        EDGE_S - 1,
        EDGE_S * 1000,
        EDGE_S * 1000 - 1,
        1e11,
        1e11 - 1,
        1_764_000_060_000,
        1_764_000_060_001,
        1e300,
        '5',
        null,
      ),
    ),
    campaign_id: fc.oneof(plainText, fc.constantFrom(null, '', 'c'.repeat(256), 'c'.repeat(257))),
    tags: fc.oneof(
      fc.array(plainText, { maxLength: 5 }),
      fc.constantFrom<unknown>(null, [], [''], ['a', 1], Array(64).fill('t'), Array(65).fill('t'), ['t'.repeat(129)]),
    ),
    metadata: fc.oneof(
      fc.dictionary(plainText, fc.jsonValue({ maxDepth: 4 }), { maxKeys: 6 }),
      fc.constantFrom<unknown>(null, {}, [], 'x', { a: { b: { c: [1, { d: null }] } } }, { long: 'm'.repeat(17_000) }),
    ),
    event_id: fc.oneof(fc.uuid(), fc.constantFrom('', 'x', '6F1C0A52-0b1e-4d8e-9a3b-2f4f5f1f7c11', null)),
    unknown: fc.constant(1),
  },
  { requiredKeys: ['event_name', 'channel', 'user_id', 'timestamp'] },
);

const word = fc.stringMatching(/^[a-zé_]{1,12}$/);
const plainEvent = fc.record(
  {
    event_name: word,
    channel: fc.constantFrom('web', 'größe'),
    user_id: fc.oneof(word, fc.constantFrom('usér_123', 'u')),
    timestamp: fc.integer({ min: EDGE_S - 10 * 86_400, max: 1_764_000_060 }),
    campaign_id: fc.option(word),
    tags: fc.option(fc.array(word, { maxLength: 4 })),
    metadata: fc.option(fc.dictionary(word, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 5 })),
    event_id: fc.uuid(),
  },
  { requiredKeys: ['event_name', 'channel', 'user_id', 'timestamp'] },
);

/** Layouts that mean the same. */
const layout = fc.constantFrom<(value: object) => string>(
  (value) => JSON.stringify(value),
  (value) => JSON.stringify(value, undefined, 2),
  (value) => ` ${JSON.stringify(Object.fromEntries(Object.entries(value).toReversed()), undefined, '\t')}\r\n`,
  (value) => JSON.stringify(value).replaceAll('/', '\\/').replaceAll('e', '\\u0065'),
);

test('generated events, valid or not, in any layout, are the same in one pass', () => {
  fc.assert(
    fc.property(event, layout, (value, print) => {
      compare(Buffer.from(print(value)), 'generated');
    }),
    tries(1_500),
  );
});

test('plain events are taken in one pass', () => {
  const plain = {
    event_name: 'product_view',
    channel: 'größe',
    campaign_id: 'cmp_987',
    user_id: 'usér_123',
    timestamp: 1_723_475_612,
    tags: ['electronics', 'flash sale'],
    metadata: { product_id: 'prod-789', price: 129.99, nested: { list: [1, -2.5e3, true, null, 'a\\b"'] } },
  };
  for (const variant of [
    plain,
    { ...plain, tags: [], metadata: {} },
    { ...plain, tags: null, metadata: null, campaign_id: null },
    { ...plain, event_id: '6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c11', timestamp: 1_723_475_612_345 },
    { event_name: 'a', channel: 'web', user_id: 'u', timestamp: 1 },
  ]) {
    for (const indent of [undefined, 2]) {
      assert.ok(compare(Buffer.from(JSON.stringify(variant, undefined, indent)), 'plain'), JSON.stringify(variant));
    }
  }
});

test('every JSON text that parsers stumble over is the same in one pass, as metadata and in place of any value', () => {
  const base = '"event_name":"e","channel":"web","user_id":"u","timestamp":5';
  for (const text of JSON_TEXTS) {
    const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text);
    const around = (before: string, after: string): Buffer =>
      Buffer.concat([Buffer.from(before), bytes, Buffer.from(after)]);
    compare(bytes, 'alone');
    compare(around(`{${base},"metadata":`, '}'), 'as metadata');
    compare(around(`{${base},"metadata":{"a":`, '}}'), 'in metadata');
    compare(around(`{${base},"metadata":{"a":[1,`, ',{}]}}'), 'in a list in metadata');
    compare(around(`{${base},"tags":[`, ']}'), 'as a tag');
    compare(around(`{${base},"tags":`, '}'), 'as tags');
    compare(around(`{"channel":"web","user_id":"u","timestamp":5,"event_name":`, '}'), 'as event_name');
    compare(around(`{"event_name":"e","channel":"web","user_id":"u","timestamp":`, '}'), 'as timestamp');
    compare(around(`{${base},"event_id":`, '}'), 'as event_id');
    compare(around(`{${base},`, ':1}'), 'as a name');
    compare(around(`{${base},"metadata":{`, ':1}}'), 'as a name in metadata');
    compare(around('', `{${base}}`), 'in front');
    compare(around(`{${base}}`, ''), 'behind');
  }
});

test('valid events with mutated bytes are the same in one pass', (t) => {
  const seed = Number(process.env['SCAN_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`SCAN_SEED=${seed}, ${CASES} cases`);
  const random = new Random(seed);
  const print = ([value, toText]: [object, (value: object) => string]): Buffer => Buffer.from(toText(value));
  const texts = fc.sample(fc.tuple(event, layout), { numRuns: 300, seed }).map(print);
  const plain = fc.sample(fc.tuple(plainEvent, layout), { numRuns: 300, seed }).map(print);
  assert.ok(plain.filter((text) => compare(text, 'before mutation')).length > 100, 'there are plain events to mutate');
  let taken = 0;
  for (let i = 0; i < CASES; i += 1) {
    const from = random.pick(random.next() < 0.7 ? plain : texts);
    const text = mutate(from, random);
    if (compare(text, `SCAN_SEED=${seed}, case ${i}: ${text.toString('latin1').slice(0, 400)}`)) taken += 1;
  }
  assert.ok(taken > CASES / 100, `of ${CASES} mutated events ${taken} were still plain: enough to see a difference`);
});

function outcomeOf(fields: Readonly<Record<string, unknown>>, indent?: number): string {
  const good = { event_name: 'a', channel: 'web', user_id: 'someone', timestamp: EDGE_S };
  const text = Buffer.from(JSON.stringify({ ...good, ...fields }, undefined, indent));
  fast.at = 0;
  const outcome = keepingEncoder.encode(text, 0, text.length, NOW_US, '', fast);
  return outcome instanceof EventFault ? `${outcome.code}: ${outcome.error}` : 'taken';
}

test('what is older than the edge of retention is refused with a code of its own, to the millisecond', () => {
  const tooOld = 'timestamp_too_old: timestamp is older than what is kept, which is 2025-10-25 on';
  assert.equal(outcomeOf({}), 'taken');
  assert.equal(outcomeOf({ timestamp: EDGE_S * 1000 }), 'taken');
  assert.equal(outcomeOf({ timestamp: EDGE_S - 1 }), tooOld);
  assert.equal(outcomeOf({ timestamp: EDGE_S * 1000 - 1 }), tooOld);
  assert.equal(outcomeOf({ timestamp: 1 }), tooOld);
  assert.match(outcomeOf({ timestamp: 1, user_id: '' }), /^validation_error: user_id must be/);
  assert.match(outcomeOf({ timestamp: 1.5 }), /^validation_error: timestamp must be/);
});

test('the events of a forgotten user are refused, however the id is spelt, and those of no other', () => {
  const refused = 'user_forgotten: user_id is of a user who is to be forgotten';
  for (const id of ['usér_123', 'u', '"']) assert.equal(outcomeOf({ user_id: id }), refused);
  for (const id of ['user_123', 'U', 'uu', '"u']) assert.equal(outcomeOf({ user_id: id }), 'taken');
  fast.at = 0;
  const escaped = Buffer.from(
    String.raw`{"event_name":"a","channel":"web","user_id":"usér_123","timestamp":1764000000}`,
  );
  const outcome = keepingEncoder.encode(escaped, 0, escaped.length, NOW_US, '', fast);
  assert.ok(outcome instanceof EventFault && outcome.code === 'user_forgotten' && fast.at === 0);
});
