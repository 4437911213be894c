import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RequestError } from '../../../../src/shared/errors.js';
import { BULK_ERRORS_MAX, stageBytes } from '../../../../src/shared/limits.js';
import { Sink } from '../../../../src/shared/rowbinary.js';
import { BulkJob } from '../../../../src/workers/encoder/bulk-job.js';
import { IdList } from '../../../../src/workers/encoder/id-list.js';
import { EventEncoder } from '../../../../src/workers/encoder/event-encoder.js';
import { formatUuid } from '../../../../src/workers/encoder/event-id.js';
import { EventFault } from '../../../../src/workers/encoder/validate.js';
import { anyEvent, Choices, layOut } from '../../../support/event-text.js';
import { isJson, mutated } from '../../../support/mutate.js';
import { tries } from '../../../support/property.js';

const ARRIVAL_US = 1_800_000_000_000_000;
const encoder = new EventEncoder({ channels: ['web', 'mobile', 'api', 'email', 'push'], futureToleranceS: 60 });
const BODY_MAX = 16 * 1024 * 1024;
const stage = new Sink(Buffer.alloc(stageBytes(BODY_MAX)));
/** As in the service: one for all bodies. */
const ids = new IdList();

interface Answer {
  readonly accepted: number;
  readonly rejected: number;
  readonly event_ids?: readonly (string | null)[];
  readonly errors: readonly {
    readonly index: number;
    readonly error: string;
    readonly code: string;
    readonly details: unknown;
  }[];
  readonly error?: string;
  readonly code?: string;
}

interface Done {
  readonly status: number;
  readonly answer: Answer;
  readonly rows: Buffer;
}

function work(
  body: string | Buffer,
  options: { ndjson?: boolean; minimal?: boolean; maxEvents?: number; slice?: number } = {},
): Done | RequestError {
  const { ndjson = false, minimal = false, maxEvents = 10_000, slice = 256 } = options;
  try {
    const job = new BulkJob(
      Buffer.from(body),
      { ndjson, minimal, maxEvents, arrivalUs: ARRIVAL_US },
      encoder,
      stage,
      ids,
    );
    while (!job.work(slice));
    assert.ok(job.rows.length <= Buffer.byteLength(body), 'the rows of a body are no more bytes than the body');
    const { status, body: text } = job.answer();
    const answer = JSON.parse(text.toString()) as Answer;
    // An answer that finds no room is asked for again.
    assert.equal(job.answer().body.toString(), text.toString());
    assert.deepEqual([answer.accepted, answer.rejected], [job.accepted, job.rejected]);
    return {
      status,
      answer,
      rows: Buffer.from(job.rows),
    };
  } catch (error) {
    if (error instanceof RequestError) return error;
    throw error;
  }
}

function done(body: string | Buffer, options: Parameters<typeof work>[1] = {}): Done {
  const outcome = work(body, options);
  if (outcome instanceof RequestError) assert.fail(outcome.message);
  return outcome;
}

function refusal(body: string | Buffer, options: Parameters<typeof work>[1] = {}): RequestError {
  const outcome = work(body, options);
  assert.ok(outcome instanceof RequestError, 'taken');
  return outcome;
}

/** What each event's text gives by itself. */
function one(text: string): { id: string; row: Buffer } | EventFault {
  const sink = new Sink(Buffer.alloc(64 * 1024));
  const bytes = Buffer.from(text);
  const outcome = encoder.encode(bytes, 0, bytes.length, ARRIVAL_US, '', sink);
  return outcome instanceof EventFault
    ? outcome
    : { id: formatUuid(outcome), row: Buffer.from(sink.buffer.subarray(0, sink.at)) };
}

const validText = fc.tuple(anyEvent, fc.infiniteStream(fc.nat())).map(([event, numbers]) => layOut(event, numbers));
const invalidText = fc.oneof(fc.json(), fc.constantFrom('{}', '1', '{"event_name":"","a\\n":[{}]}', '[[]]'));
const texts = fc.array(fc.oneof({ weight: 3, arbitrary: validText }, { weight: 1, arbitrary: invalidText }), {
  minLength: 1,
  maxLength: 8,
});
const forms = fc.constantFrom<'object' | 'array' | 'ndjson'>('object', 'array', 'ndjson');

function assertAsOneByOne({ status, answer, rows }: Done, events: readonly string[]): void {
  const each = events.map(one);
  const good = each.flatMap((outcome) => (outcome instanceof EventFault ? [] : [outcome]));
  assert.equal(status, good.length > 0 ? 202 : 400);
  assert.equal(answer.accepted, good.length);
  assert.equal(answer.rejected, events.length - good.length);
  assert.deepEqual(
    answer.event_ids,
    each.map((outcome) => (outcome instanceof EventFault ? null : outcome.id)),
  );
  const faults = each.flatMap((outcome, index) =>
    outcome instanceof EventFault
      ? [{ index, error: outcome.error, code: outcome.code, details: outcome.details }]
      : [],
  );
  assert.deepEqual(answer.errors, faults.slice(0, BULK_ERRORS_MAX));
  assert.ok(rows.equals(Buffer.concat(good.map(({ row }) => row))), 'rows are those of the events, in order');
}

test('a bulk body in any form gives the ids, errors and rows that its events give one by one', () => {
  fc.assert(
    fc.property(
      texts,
      forms,
      fc.integer({ min: 1, max: 4 }),
      fc.infiniteStream(fc.nat()),
      (events, form, slice, numbers) => {
        const choices = new Choices(numbers);
        // A line of its own for each in NDJSON: white space within stays, but for line feeds.
        const lines = events.map((text) =>
          form === 'ndjson' ? text.replaceAll('\n', ' ') : choices.space() + text + choices.space(),
        );
        const body =
          form === 'ndjson'
            ? lines.join(choices.below(2) === 0 ? '\n' : '\n \r\n')
            : form === 'array'
              ? `[${lines.join(',')}]`
              : `{"events":[${lines.join(',')}]}`;
        assertAsOneByOne(done(body, { ndjson: form === 'ndjson', slice }), lines);
      },
    ),
    tries(150),
  );
});

test('a document with a syntax error anywhere is refused whole, and no other is', () => {
  const body = fc
    .tuple(texts, fc.boolean())
    .map(([events, bare]) => (bare ? `[${events.join(',')}]` : `{"events":[${events.join(',\n')}]}`));
  fc.assert(
    fc.property(mutated(body), (bytes) => {
      const text = bytes.toString();
      const outcome = work(bytes);
      if (isJson(text)) {
        const value: unknown = JSON.parse(text);
        const events: unknown = Array.isArray(value) ? value : (value as { events?: unknown } | null)?.events;
        if (!(outcome instanceof RequestError))
          assert.equal(outcome.answer.accepted + outcome.answer.rejected, (events as unknown[]).length);
        return;
      }
      if (outcome instanceof RequestError) {
        assert.equal(outcome.status, 400);
        return;
      }
      // Taken all the same: then it was read as lines, the first of which is a whole object.
      const [first = ''] = text.trimStart().split('\n');
      assert.ok(first.startsWith('{'), text);
      assert.equal(
        outcome.answer.accepted + outcome.answer.rejected,
        text.split('\n').filter((line) => /[^ \t\r\n]/.test(line)).length,
      );
    }),
    tries(500),
  );
});

const EVENT = '{"event_name":"a","channel":"web","user_id":"u","timestamp":1}';

test('a broken line is that event’s error, counted without the blank lines', () => {
  const { status, answer } = done(`\n${EVENT}\n\n  \nbroken\n${EVENT}\n{"event_name":`, { ndjson: true });
  assert.equal(status, 202);
  assert.deepEqual([answer.accepted, answer.rejected], [2, 2]);
  assert.deepEqual(
    answer.errors.map(({ index }) => index),
    [1, 3],
  );
});

test('lines whose first looks like a document are lines', () => {
  const { answer } = done(`{"events":[${EVENT}]}\n${EVENT}`);
  assert.deepEqual([answer.accepted, answer.rejected, answer.event_ids?.[0]], [1, 1, null]);
});

test('a body with no event, or one too many, is refused whole in every form', () => {
  for (const body of ['[]', '{"events":[]}', '\n \n'])
    assert.match(refusal(body, { ndjson: body.startsWith('\n') }).message, /no event/);
  for (const [body, ndjson] of [
    [`[${EVENT},${EVENT},${EVENT}]`, false],
    [`{"events":[${EVENT},1,${EVENT}]}`, false],
    [`${EVENT}\nx\n${EVENT}`, true],
  ] as const) {
    assert.equal(done(body, { ndjson, maxEvents: 3 }).answer.event_ids?.length, 3);
    const error = refusal(body, { ndjson, maxEvents: 2 });
    assert.deepEqual([error.code, error.status], ['payload_too_large', 413]);
    assert.match(error.message, /more than 2 events/);
  }
});

test('the errors told are bounded, those counted are not; ids go where the client wants none', () => {
  const body = `[${Array.from({ length: 250 }, () => '{}').join(',')}]`;
  const { status, answer } = done(body);
  assert.deepEqual(
    [status, answer.rejected, answer.errors.length, answer.code],
    [400, 250, BULK_ERRORS_MAX, 'validation_error'],
  );
  assert.match(answer.error ?? '', /^every event was refused, the first because event_name is required/);
  const minimal = done(`[${EVENT},{}]`, { minimal: true });
  assert.deepEqual([minimal.status, minimal.answer.event_ids, minimal.answer.errors.length], [202, undefined, 1]);
});

test('a large body gives all of its rows, and the next one begins anew', () => {
  const wide = `{"event_name":"a","channel":"web","user_id":"u","timestamp":1,"metadata":{"text":"${'x'.repeat(16_000)}"}}`;
  const events = Array.from({ length: 700 }, () => wide);
  const large = done(events.join('\n'), { ndjson: true });
  assert.equal(large.rows.length, 700 * (one(wide) as { row: Buffer }).row.length);
  assertAsOneByOne(done(`[${EVENT}]`), [EVENT]);
});
