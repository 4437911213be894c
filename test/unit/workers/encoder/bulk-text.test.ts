import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BulkText } from '../../../../src/workers/encoder/bulk-text.js';
import { UNENDED } from '../../../../src/workers/encoder/json-text.js';
import { Choices, spellString, spellValue } from '../../../support/event-text.js';
import { anyBytes, isJson, mutated } from '../../../support/mutate.js';
import { tries } from '../../../support/property.js';

interface Taken {
  /** Values of the events' texts; undefined where one is not JSON. */
  readonly events: unknown[];
  readonly outcome: 'end' | 'fault' | 'restart';
  readonly fault: string;
  readonly ndjson: boolean;
}

/** Takes a body apart, with bytes around it that must not be looked at. */
function take(body: Uint8Array, ndjson: boolean): Taken {
  const start = 3;
  const end = start + body.length;
  const text = new BulkText(Buffer.concat([Buffer.from('"[{'), body, Buffer.from(',"}]\n{}')]), start, end, ndjson);
  const events: unknown[] = [];
  for (let previous = start; ;) {
    const step = text.next();
    if (step !== 'event') return { events, outcome: step, fault: text.fault, ndjson: text.linesStandAlone };
    if (text.end === UNENDED && !text.findEnd()) return { events, outcome: 'fault', fault: text.fault, ndjson: false };
    assert.ok(
      text.start >= previous && text.end > text.start && text.end <= end,
      'events are in order and within the body',
    );
    previous = text.end;
    const slice = body.subarray(text.start - start, text.end - start);
    events.push(parse(Buffer.from(slice).toString()));
  }
}

function parse(text: string): unknown {
  return isJson(text) ? (JSON.parse(text) as unknown) : undefined;
}

const numbers = fc.infiniteStream(fc.nat());
const anyEvents = fc.array(
  fc.oneof(fc.jsonValue({ maxDepth: 2, stringUnit: 'binary' }), fc.constantFrom(1, 'a', null)),
  { maxLength: 5 },
);

/** A document of a form, laid out by chance. */
const documents = fc
  .record({ events: anyEvents, form: fc.constantFrom('object', 'array'), stream: numbers })
  .map(({ events, form, stream }) => {
    const choices = new Choices(stream);
    const array = choices.space() + spellValue(events, choices) + choices.space();
    const text =
      form === 'array'
        ? array
        : `${choices.space()}{${choices.space()}${spellString('events', choices)}${choices.space()}:${array}}${choices.space()}`;
    return { events: JSON.parse(JSON.stringify(events)) as unknown[], text };
  });

test('a document of either form gives its events, whatever its layout', () => {
  fc.assert(
    fc.property(documents, ({ events, text }) => {
      const taken = take(Buffer.from(text), false);
      assert.equal(taken.outcome, 'end', taken.fault);
      assert.deepEqual(taken.events, events);
    }),
    tries(300),
  );
});

/** The events of a document by JSON.parse; undefined where it is none, or not of either form. */
function eventsByParse(text: string): unknown[] | undefined {
  const value = parse(text);
  if (Array.isArray(value)) return value as unknown[];
  if (typeof value !== 'object' || value === null || Object.keys(value).join(',') !== 'events' || !('events' in value))
    return undefined;
  return Array.isArray(value.events) ? value.events : undefined;
}

test('events that are passed are those that would come next, in any form', () => {
  const objects = fc.array(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 1 })), { maxLength: 6 });
  fc.assert(
    fc.property(objects, fc.constantFrom('object', 'array', 'ndjson'), numbers, (events, form, stream) => {
      const choices = new Choices(stream);
      const texts = events.map((event) => JSON.stringify(event));
      const inner = texts.map((text) => choices.space() + text + choices.space()).join(',');
      const body =
        form === 'ndjson' ? texts.join(' \r\n\n ') : form === 'array' ? ` [${inner}]\n` : `{ "events" : [${inner}] }`;
      const bytes = Buffer.from(body);
      const text = new BulkText(bytes, 0, bytes.length, form === 'ndjson');
      for (const event of texts) {
        const { ahead } = text;
        assert.equal(bytes.toString('utf8', ahead, ahead + Buffer.byteLength(event)), event);
        if (choices.below(2) === 0) text.passTo(ahead + Buffer.byteLength(event));
        else {
          assert.equal(text.next(), 'event');
          assert.equal(text.start, ahead);
          assert.ok(text.end !== UNENDED || text.findEnd());
        }
      }
      assert.equal(text.ahead, UNENDED);
      assert.equal(text.next(), 'end');
    }),
    tries(300),
  );
});

test('any bytes are accepted as a document exactly where JSON.parse takes the whole and it has the right shape', () => {
  fc.assert(
    fc.property(fc.oneof(mutated(documents.map(({ text }) => text)), anyBytes), (body) => {
      const taken = take(body, false);
      const accepted = taken.outcome === 'end' && !taken.ndjson && !taken.events.includes(undefined);
      const expected = eventsByParse(body.toString());
      // JSON.parse does not tell of a member given twice: of two members "events" the text has two, or one more key.
      const twice = expected !== undefined && !accepted && taken.fault.includes('once');
      assert.equal(accepted, expected !== undefined && !twice, body.toString());
      if (accepted) assert.deepEqual(taken.events, expected);
      if (taken.outcome === 'fault') assert.notEqual(taken.fault, '');
    }),
    tries(3000),
  );
});

test('lines give one event each, blank ones none, whatever is in them', () => {
  const line = fc.oneof(
    fc.json(),
    fc.constantFrom('', ' ', '\t\r', '{"a":', 'x', '"\\'),
    fc.string({ unit: 'binary' }),
  );
  fc.assert(
    fc.property(
      fc.array(line, { maxLength: 8 }),
      fc.constantFrom('\n', '\r\n'),
      fc.boolean(),
      (lines, newline, ends) => {
        const body = lines.join(newline) + (ends ? newline : '');
        const taken = take(Buffer.from(body), true);
        const expected = body.split('\n').filter((text) => /[^ \t\r\n]/.test(text));
        assert.equal(taken.outcome, 'end');
        assert.deepEqual(taken.events, expected.map(parse));
      },
    ),
    tries(300),
  );
});

test('lines show by what follows the first object on its line', () => {
  for (const body of ['{"a":1}\n{"a":2}', ' \n{"a":1}\n\n{"a":2}\n', '{"a":1}\r\nx', '{"a":1} {"a":2}', '{}\n{}']) {
    assert.equal(take(Buffer.from(body), false).ndjson, true, body);
  }
  for (const body of ['{"events":[]}\n{"a":1}', '{"events":[1]} x', '{"events":[{"a":1}]}\n{"events":[]}']) {
    assert.equal(take(Buffer.from(body), false).outcome, 'restart', body);
  }
  for (const body of [
    '{"a":1}',
    '{"a":1}\n',
    '{\n"a":1}\n{"a":2}',
    '{"events":[\n{"a":1}\n]}x',
    '{"events":[{"a":1}],\n"events":[]}',
    '[1]\n[2]',
    '[{}]\n{}',
  ]) {
    assert.equal(take(Buffer.from(body), false).outcome, 'fault', body);
  }
});

test('what is no bulk document is refused in words that tell what is one', () => {
  const cases: readonly (readonly [body: string, fault: RegExp])[] = [
    ['', /empty.*expected \{"events":\[…\]\}, an array of events, or NDJSON/],
    [' \n', /empty/],
    ['1', /no bulk document/],
    ['"[]"', /no bulk document/],
    ['{}', /no member events/],
    ['{"event_name":"a"}', /"event_name" is not a member of a bulk document/],
    [`{"${'x'.repeat(500)}":1}`, /^.{20,250}$/],
    ['{"events":{}}', /events must be an array/],
    ['{"events" []}', /not valid JSON at byte/],
    ['{"events":[],"more":1}', /no other member/],
    ['[1 2]', /not valid JSON at byte/],
    ['[1,]', /not valid JSON at byte/],
    ['[1', /not valid JSON at byte/],
    ['[{"a":1]', /not valid JSON at byte|^$/],
  ];
  for (const [body, fault] of cases) assert.match(take(Buffer.from(body), false).fault, fault, body);
});
