import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BULK_ERRORS_MAX } from '../../../../src/shared/limits.js';
import { Sink } from '../../../../src/shared/rowbinary.js';
import { BulkJob } from '../../../../src/workers/encoder/bulk-job.js';
import { IdList } from '../../../../src/workers/encoder/id-list.js';
import type { EventEncoder } from '../../../../src/workers/encoder/event-encoder.js';
import { formatUuid } from '../../../../src/workers/encoder/event-id.js';
import { skipSpace } from '../../../../src/workers/encoder/json-text.js';
import { EventFault } from '../../../../src/workers/encoder/validate.js';
import { JSON_TEXTS, mutate, Random } from '../../../support/json-texts.js';
import { isJson } from '../../../support/mutate.js';
import { event, keepingEncoder, layout, NOW_US, plainEncoder, plainEvent } from '../../../support/plain-events.js';

/**
 * A bulk body gives what its events give one by one the readable way: rows, ids and messages, wherever between odd events and
 * borders of chunks the one-pass encoder has to stop and go on.
 */

const CASES = Number(process.env['SCAN_CASES'] ?? 30_000);
/** Of the one-pass encoder (scan/layout.ts). */
const CHUNK_BYTES = 128 * 1024;
/** Events of a mutated body: some three chunks. */
const BODY_EVENTS = 1_500;

const stage = new Sink(Buffer.alloc(16 * 1024 * 1024));
/** As in the service: one for all bodies. */
const idList = new IdList();
const scratch = new Sink(Buffer.alloc(64 * 1024));

interface Outcome {
  readonly accepted: number;
  readonly rejected: number;
  readonly event_ids: (string | null)[];
  readonly errors: { index: number; error: string; code: string; details: unknown }[];
  readonly rows: Buffer;
}

/** What the events give one by one the readable way. */
function oneByOne(encoder: EventEncoder, events: readonly Buffer[]): Outcome {
  const rows: Buffer[] = [];
  const ids: (string | null)[] = [];
  const errors: Outcome['errors'] = [];
  for (const [index, text] of events.entries()) {
    scratch.at = 0;
    const outcome = encoder.encodeReadably(text, 0, text.length, NOW_US, '', scratch);
    ids.push(outcome instanceof EventFault ? null : formatUuid(outcome));
    if (outcome instanceof EventFault) {
      errors.push({ index, error: outcome.error, code: outcome.code, details: outcome.details });
    } else {
      rows.push(Buffer.from(scratch.buffer.subarray(0, scratch.at)));
    }
  }
  const { length: rejected } = errors;
  return {
    accepted: rows.length,
    rejected,
    event_ids: ids,
    errors: errors.slice(0, BULK_ERRORS_MAX),
    rows: Buffer.concat(rows),
  };
}

/** Works off a body, and singles in between, as an encoder does. */
function inBulk(encoder: EventEncoder, body: Buffer, ndjson: boolean, slice: () => number): Outcome {
  const options = { ndjson, minimal: false, maxEvents: 1_000_000, arrivalUs: NOW_US };
  const job = new BulkJob(body, options, encoder, stage, idList);
  const single = Buffer.from(' {"event_name":"s","channel":"web","user_id":"single","timestamp":1763999000}');
  for (let isDone = false; !isDone;) {
    isDone = job.work(slice());
    scratch.at = 0;
    assert.ok(!(encoder.encode(single, 0, single.length, NOW_US, '', scratch) instanceof EventFault));
  }
  const { accepted, rejected, event_ids, errors } = JSON.parse(job.answer().body.toString()) as Outcome;
  return { accepted, rejected, event_ids, errors, rows: Buffer.from(job.rows) };
}

function assertSame(one: Outcome, other: Outcome, about: string): void {
  const { rows, ...answer } = one;
  const { rows: otherRows, ...otherAnswer } = other;
  assert.deepEqual(answer, otherAnswer, about);
  assert.ok(rows.equals(otherRows), `${about}: rows differ`);
}

function linesOf(body: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let start = 0; start <= body.length;) {
    const feed = body.indexOf('\n', start);
    const end = feed === -1 ? body.length : feed;
    const from = skipSpace(body, start, end);
    if (from < end) lines.push(body.subarray(from, end));
    start = end + 1;
  }
  return lines;
}

/** Holds the body of those texts to the readable way, as lines and, of those that are JSON, as an array. */
function compare(texts: readonly Buffer[], random: Random, about: string): void {
  const slice = (): number => 1 + random.below(random.pick([3, 50, 600]));
  const between = (): string => random.pick(['', '', '', ' ', '\t ', '\r\n']);
  const join = (pieces: readonly Buffer[], separator: () => string): Buffer =>
    Buffer.concat(pieces.flatMap((piece) => [piece, Buffer.from(separator())]).slice(0, -1));
  // Most of what is laid out over several lines is put on one.
  const onLines = texts.map((text) =>
    random.next() < 0.02 ? text : text.map((byte) => (byte === 0x0a ? 0x20 : byte)),
  );
  const lines = join(
    onLines.map((text) => Buffer.from(text)),
    () => random.pick(['\n', '\n', '\n', '\r\n', '\n\n', ' \t\n \n']),
  );
  const events = linesOf(lines);
  const elements = texts
    .filter((text) => isJson(text.toString()))
    .map((text) => text.subarray(skipSpace(text, 0, text.length)));
  const array = join(elements, () => `${between()},${between()}`);
  const document = Buffer.concat([Buffer.from('{"events":['), array, Buffer.from(`${between()}]}`)]);
  for (const encoder of [plainEncoder, keepingEncoder]) {
    if (events.length > 0) assertSame(inBulk(encoder, lines, true, slice), oneByOne(encoder, events), about);
    if (elements.length > 0) assertSame(inBulk(encoder, document, false, slice), oneByOne(encoder, elements), about);
  }
}

test('bodies of mutated events are the same in one pass as one by one', (t) => {
  const seed = Number(process.env['SCAN_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`SCAN_SEED=${seed}, ${CASES} cases in bodies of ${BODY_EVENTS}`);
  const random = new Random(seed);
  const print = ([value, toText]: [object, (value: object) => string]): Buffer => Buffer.from(toText(value));
  const texts = fc.sample(fc.tuple(event, layout), { numRuns: 300, seed }).map(print);
  const plain = fc.sample(fc.tuple(plainEvent, layout), { numRuns: 300, seed }).map(print);
  for (let done = 0; done < CASES; done += BODY_EVENTS) {
    // Long runs of plain events, and bodies in which hardly one is.
    const mutated = random.pick([0.02, 0.3, 0.9]);
    const body = Array.from({ length: BODY_EVENTS }, () => {
      const from = random.pick(random.next() < 0.8 ? plain : texts);
      return random.next() < mutated ? mutate(from, random) : from;
    });
    compare(body, random, `SCAN_SEED=${seed}, body ${done / BODY_EVENTS}`);
  }
});

test('a body of every JSON text that parsers stumble over, plain events in between, is the same in one pass', () => {
  const random = new Random(1);
  const plain = Buffer.from('{"event_name":"e","channel":"web","user_id":"v","timestamp":1763999000}');
  const base = '{"event_name":"e","channel":"web","user_id":"v","timestamp":1763999000,"metadata":{"a":';
  const texts = JSON_TEXTS.flatMap((text) => {
    const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text);
    return [plain, bytes, plain, Buffer.concat([Buffer.from(base), bytes, Buffer.from('}}')])];
  });
  compare(texts, random, 'JSON_TEXTS');
});

/** An event of exactly so many bytes. */
function eventOf(bytes: number, name: string): Buffer {
  const around = `{"event_name":"${name}","channel":"web","user_id":"v","timestamp":1763999000,"metadata":{"a":""}}`;
  return Buffer.from(around.replace('"a":""', `"a":"${'x'.repeat(bytes - around.length)}"`));
}

test('events are whole wherever in them a chunk ends, and none needs the readable way for that', (t) => {
  const readably = t.mock.method(plainEncoder, 'encodeReadably');
  const random = new Random(2);
  const short = Buffer.from(
    '{"event_name":"é","channel":"web", "user_id":"v","timestamp":1763999000,"tags":["t"],"metadata":{"a": [1,true]}} ',
  );
  const big = 16_000;
  const fillers = Array.from({ length: 8 }, (_, index) => eventOf(big, `f${index}`));
  // One byte behind each filler. The last one makes the first chunk end so many bytes behind the start of the event.
  for (let behind = -2; behind <= short.length + 2; behind += 1) {
    const last = eventOf(CHUNK_BYTES - 8 * (big + 1) - 1 - behind, 'last');
    const texts = [...fillers, last, short, short, short];
    for (const [body, ndjson] of [
      [texts.map(String).join('\n'), true],
      [`[${texts.map(String).join(',')}]`, false],
    ] as const) {
      const about = `a chunk ends ${behind} bytes behind the start of an event, NDJSON: ${ndjson}`;
      const slice = (): number => random.pick([4, 1000]);
      readably.mock.resetCalls();
      const outcome = inBulk(plainEncoder, Buffer.from(body), ndjson, slice);
      assert.equal(readably.mock.callCount(), 0, about);
      assertSame(outcome, oneByOne(plainEncoder, texts), about);
    }
    // What stands behind an event on its line may be in the next chunk only.
    const broken = [...fillers, last, Buffer.from(`${String(short)}x`), short];
    const outcome = inBulk(plainEncoder, Buffer.from(broken.map(String).join('\n')), true, () => 1000);
    assertSame(outcome, oneByOne(plainEncoder, broken), `something behind the event, ${behind} bytes behind its start`);
  }
});

test('events larger than what is looked at again, or than a chunk, are taken, whatever stands around them', () => {
  const spaced = (bytes: number): Buffer =>
    Buffer.from(`{"event_name":"w","channel":"web","user_id":"v"${' '.repeat(bytes)},"timestamp":1763999000}`);
  const texts: Buffer[] = [];
  for (const bytes of [10_000, 40_000, 130_000, 200_000, 20_000, 100_000, 40_000]) {
    texts.push(eventOf(300, 'before'), spaced(bytes), eventOf(300, 'behind'));
  }
  compare(texts, new Random(3), 'large events');
});
