import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Sink } from '../../../../src/shared/rowbinary.js';
import type { EventEncoder } from '../../../../src/workers/encoder/event-encoder.js';
import { IdList } from '../../../../src/workers/encoder/id-list.js';
import { skipSpace, skipValue } from '../../../../src/workers/encoder/json-text.js';
import { EventText } from '../../../../src/workers/encoder/plain-events.js';
import { EventFault } from '../../../../src/workers/encoder/validate.js';
import { JSON_TEXTS, mutate, Random } from '../../../support/json-texts.js';
import {
  EDGE_S,
  event,
  keepingEncoder,
  layout,
  NOW_US,
  plainEncoder,
  plainEvent,
} from '../../../support/plain-events.js';
import { tries } from '../../../support/property.js';

/**
 * The one-pass encoder may hand back what it likes, but what it takes must be what the readable way makes of it, byte for byte:
 * here one event at a time, many behind one another in plain-events-bulk.test.ts.
 */

const CASES = Number(process.env['SCAN_CASES'] ?? 30_000);

const fast = new Sink(Buffer.alloc(64 * 1024));
const readable = new Sink(Buffer.alloc(64 * 1024));

/** Between other bytes, as it stands in a ring or an NDJSON body. */
function surrounded(text: Buffer): { bytes: Buffer; start: number; end: number } {
  const before = Buffer.from('{"event_name":"x"}\n');
  const bytes = Buffer.concat([before, text, Buffer.from('}"}],"user_id":"u"}')]);
  return { bytes, start: before.length, end: before.length + text.length };
}

/** Holds both ways to the same verdict, bytes, id and messages; tells whether the text is one that is taken in one pass. */
function compare(text: Buffer, about: string): boolean {
  const { bytes, start, end } = surrounded(text);
  compareIn(plainEncoder, bytes, start, end, about);
  compareIn(keepingEncoder, bytes, start, end, about);
  for (const encoder of [plainEncoder, keepingEncoder]) {
    for (const lines of [true, false]) {
      compareAhead(encoder, bytes, start, bytes.length, lines, about);
      // With nothing behind it, and nothing but white space.
      compareAhead(encoder, bytes, start, end, lines, about);
    }
  }
  return compareAhead(plainEncoder, bytes, start, end, false, about) === end;
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
    return;
  }
  assert.equal(id, Buffer.from(other).toString('hex'), about);
  assertSameRows(about);
}

function assertSameRows(about: string): void {
  assert.ok(fast.buffer.subarray(0, fast.at).equals(readable.buffer.subarray(0, readable.at)), `${about}: rows differ`);
}

/**
 * The end of the event unknown, something or nothing behind it: what is taken is the same event that it is with its end known.
 * Returns where it ends, white space behind it included; undefined where it is not taken.
 */
function compareAhead(
  encoder: EventEncoder,
  text: Buffer,
  from: number,
  end: number,
  lines: boolean,
  about: string,
): number | undefined {
  fast.at = 0;
  readable.at = 0;
  const start = skipSpace(text, from, end);
  if (start === end) return undefined;
  const ids = new IdList();
  const readableIds = new IdList();
  if (
    encoder.encodePlain(new EventText(text.subarray(0, end), { lines, withIds: true }), start, 1, NOW_US, fast, ids) ===
    0
  ) {
    assert.equal(fast.at, 0, `${about}: an event that is not taken leaves the sink as it was`);
    return undefined;
  }
  const { behind } = encoder;
  assert.equal(skipValue(text, start, end), behind, `${about}: where it ends`);
  if (lines) {
    assert.ok(!text.subarray(start, behind).includes('\n'), `${about}: an event is on one line`);
    assert.match(text.toString('latin1', behind, end), /^[ \t\r]*(\n|$)/, `${about}: nothing else is on it`);
  }
  const other = encoder.encodeReadably(text, start, behind, NOW_US, '', readable);
  assert.ok(!(other instanceof EventFault), about);
  assertSameRows(about);
  readableIds.add(other);
  assert.ok(ids.between('', '').equals(readableIds.between('', '')), `${about}: ids differ`);
  return skipSpace(text, behind, end);
}

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

test('every beginning of a character, whole or broken, is the same in one pass', () => {
  const seconds = [0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0];
  const edges = [0x7f, 0x80, 0xbf, 0xc0];
  let taken = 0;
  for (let first = 0x80; first <= 0xff; first += 1) {
    for (const second of seconds) {
      for (const third of edges) {
        for (const fourth of edges) {
          const before = `{"event_name":"e","channel":"web","timestamp":5,"user_id":"${'x'.repeat(taken % 17)}`;
          const text = [Buffer.from(before), Buffer.from([first, second, third, fourth]), Buffer.from('"}')];
          if (compare(Buffer.concat(text), [first, second, third, fourth].join(' '))) taken += 1;
        }
      }
    }
  }
  assert.ok(taken > 100);
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

test('the id is the one that is derived the readable way, at every length of what it is derived from', () => {
  const base = { event_name: 'e', channel: 'web', user_id: 'u', timestamp: 1 };
  const lengths = [...Array(1_300).keys(), 2_047, 2_048, 2_049, 5_000, 12_345, 16_384 - 9, 16_384 - 8];
  for (const length of lengths) {
    const filled = Array.from({ length }, (_, index) => String.fromCharCode(0x61 + ((index * 7 + (index >> 5)) % 26)));
    const value = { ...base, ...(length === 0 ? {} : { metadata: { a: filled.join('') } }) };
    assert.ok(compare(Buffer.from(JSON.stringify(value)), `${length} bytes`));
  }
  for (let length = 1; length <= 128; length += 1) {
    assert.ok(compare(Buffer.from(JSON.stringify({ ...base, event_name: 'n'.repeat(length) })), `name of ${length}`));
  }
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
