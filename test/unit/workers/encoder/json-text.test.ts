import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  compact,
  countMembers,
  emptySurvey,
  escapePointer,
  findDuplicate,
  skipSpace,
  skipString,
  skipValue,
  stringAt,
  type Survey,
  survey,
  UNENDED,
} from '../../../../src/workers/encoder/json-text.js';
import { Choices, spellString, spellValue } from '../../../support/event-text.js';
import { anyBytes, isJson } from '../../../support/mutate.js';
import { tries } from '../../../support/property.js';

const anyKey = fc.oneof(
  { weight: 3, arbitrary: fc.string({ unit: 'binary', maxLength: 6 }) },
  { weight: 1, arbitrary: fc.constantFrom('metadata', 'events', '__proto__', 'a/b', 'a~b', '', ':', '{"') },
);
const anyValue = fc
  .letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.oneof(
        fc.string({ unit: 'binary', maxLength: 12 }),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.boolean(),
        fc.constant(null),
      ),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(anyKey, tie('value'), { maxKeys: 4, noNullPrototype: true }),
    ),
  }))
  .value.map((value) => JSON.parse(JSON.stringify(value)) as unknown);
const anyObject = fc
  .dictionary(anyKey, anyValue, { maxKeys: 6, noNullPrototype: true })
  .map((value) => JSON.parse(JSON.stringify(value)) as Record<string, unknown>);
const numbers = fc.infiniteStream(fc.nat());

/** Text in the middle of other bytes, so that a step over either end shows. */
function embed(text: string): { bytes: Buffer; start: number; end: number } {
  const inner = Buffer.from(text);
  return { bytes: Buffer.concat([Buffer.from('"]}x'), inner, Buffer.from('}]":,')]), start: 4, end: 4 + inner.length };
}

test('the end of any value is found, whatever its layout', () => {
  fc.assert(
    fc.property(anyValue, numbers, fc.constantFrom('', ' ', ',', ']', '}', '\n'), (value, stream, behind) => {
      const text = spellValue(value, new Choices(stream));
      const { bytes, start, end } = embed(text + behind);
      assert.equal(skipValue(bytes, start, end), start + Buffer.byteLength(text));
    }),
    tries(500),
  );
});

test('the end of a string is found, and the string is what JSON.parse makes of it', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), numbers, (value, stream) => {
      const { bytes, start, end } = embed(spellString(value, new Choices(stream)));
      assert.equal(skipString(bytes, start, end), end);
      assert.equal(stringAt(bytes, start, end), value);
      assert.equal(skipString(bytes, start, end - 1), UNENDED);
    }),
    tries(500),
  );
  for (const text of ['1', 'null', '{}', '', '"', '"a', '"\\x"'])
    assert.equal(stringAt(Buffer.from(text), 0, text.length), undefined);
});

test('white space is what JSON calls so', () => {
  for (let byte = 0; byte < 256; byte += 1) {
    const isSpace = skipSpace(Uint8Array.of(byte), 0, 1) === 1;
    assert.equal(
      isSpace,
      isJson(Buffer.concat([Uint8Array.of(byte), Buffer.from('1')]).toString('latin1')) && byte < 0x30 && byte !== 0x2d,
      String(byte),
    );
  }
});

test('compacted text parses to the same value and is the text without white space outside strings', () => {
  fc.assert(
    fc.property(anyValue, numbers, (value, stream) => {
      const text = spellValue(value, new Choices(stream));
      const { bytes, start, end } = embed(text);
      const out = Buffer.alloc(end - start + 8, 0x7e);
      const to = compact(bytes, start, end, out, 3);
      const compacted = out.toString('utf8', 3, to);
      assert.deepEqual(JSON.parse(compacted), value);
      assert.equal(compacted, text.replaceAll(/("(?:[^"\\]|\\.)*")|[ \t\r\n]+/g, '$1'));
      assert.ok(out.subarray(to).every((byte) => byte === 0x7e) && out.subarray(0, 3).every((byte) => byte === 0x7e));
    }),
    tries(500),
  );
});

function depthOf(value: unknown): number {
  return typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
}

function membersOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const inner: unknown[] = Object.values(value);
  return (Array.isArray(value) ? 0 : inner.length) + inner.reduce<number>((sum, item) => sum + membersOf(item), 0);
}

test('a survey of any object finds its members, its depth and its metadata', () => {
  fc.assert(
    fc.property(anyObject, numbers, (value, stream) => {
      const { bytes, start, end } = embed(spellValue(value, new Choices(stream)));
      const found = emptySurvey();
      survey(bytes, start, end, found);
      const own = Object.keys(value).length;
      assert.deepEqual(
        [found.members, found.innerMembers, found.depth, found.loneSurrogateAt],
        [own, membersOf(value) - own, depthOf(value), UNENDED],
      );
      assert.equal(countMembers(value), membersOf(value));
      assert.equal(found.metadataStart === UNENDED, !Object.hasOwn(value, 'metadata'));
      if (found.metadataStart !== UNENDED) {
        const text = bytes.toString('utf8', found.metadataStart, found.metadataEnd);
        assert.deepEqual(JSON.parse(text), value['metadata']);
        assert.equal(text, text.trim());
      }
      assert.equal(findDuplicate(bytes, start, end), undefined);
    }),
    tries(500),
  );
});

test('a member given twice is counted twice and found, however its name is spelt and wherever it is', () => {
  const duplicate = fc.record({
    value: anyObject,
    name: anyKey,
    outer: fc.array(fc.oneof(anyKey, fc.nat(2)), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(duplicate, numbers, ({ value, name, outer }, stream) => {
      const choices = new Choices(stream);
      const { [name]: _, ...rest } = value;
      const once = `${spellString(name, choices)}${choices.space()}:1`;
      const members = [
        once,
        ...Object.entries(rest).map(([key, item]) => `${spellString(key, choices)}:${spellValue(item, choices)}`),
      ];
      let text = `{${[...choices.shuffled(members), `${spellString(name, choices)}:2`].join(',')}}`;
      let pointer = `/${escapePointer(name)}`;
      for (const step of outer) {
        const isIndex = typeof step === 'number';
        text = isIndex ? `[${'0,'.repeat(step)}${text}]` : `{${spellString(step, choices)}:${text}}`;
        pointer = `/${isIndex ? step : escapePointer(step)}${pointer}`;
      }
      const { bytes, start, end } = embed(text);
      assert.equal(findDuplicate(bytes, start, end), pointer);
      const found = emptySurvey();
      survey(bytes, start, end, found);
      assert.equal(found.members + found.innerMembers, countMembers(JSON.parse(text) as object) + 1);
    }),
    tries(500),
  );
});

test('half a surrogate pair is found exactly where there is one', () => {
  const unit = fc.constantFrom(
    '\\ud83d',
    '\\uD83D',
    '\\ude00',
    '\\uDE00',
    '\\u0041',
    'a',
    '\\\\',
    '\\n',
    'u',
    '€',
    '😀',
    'dc00',
  );
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 8 }), fc.boolean(), (units, inKey) => {
      const content = units.join('');
      const text = inKey ? `{"a${content}":1}` : `{"k":"${content}"}`;
      const { bytes, start, end } = embed(text);
      const found = emptySurvey();
      survey(bytes, start, end, found);
      const value = JSON.stringify(JSON.parse(text));
      // A well-formed JSON.stringify escapes lone surrogates, and nothing else begins so.
      assert.equal(found.loneSurrogateAt !== UNENDED, /(?<!\\)(?:\\\\)*\\ud/.test(value), text);
      if (found.loneSurrogateAt !== UNENDED)
        assert.match(bytes.toString('latin1', found.loneSurrogateAt, found.loneSurrogateAt + 6), /^\\u[dD][89a-fA-F]/);
    }),
    tries(500),
  );
});

test('on any bytes every walk ends within its bounds', () => {
  const found: Survey = emptySurvey();
  fc.assert(
    fc.property(anyBytes, fc.nat(), fc.nat(), (bytes, a, b) => {
      const start = a % (bytes.length + 1);
      const end = start + (b % (bytes.length + 1 - start));
      const within = (position: number): void =>
        assert.ok(position === UNENDED || (position >= start && position <= end), `${position}`);
      within(skipSpace(bytes, start, end));
      within(skipString(bytes, start, end));
      within(skipValue(bytes, start, end));
      survey(bytes, start, end, found);
      within(found.metadataStart);
      within(found.metadataEnd);
      within(found.loneSurrogateAt);
      findDuplicate(bytes, start, end);
      const out = Buffer.alloc(end - start + 2, 0x7e);
      const to = compact(bytes, start, end, out, 1);
      assert.ok(to >= 1 && to <= 1 + end - start);
      assert.ok(out[0] === 0x7e && out.subarray(to).every((byte) => byte === 0x7e));
    }),
    tries(1000),
  );
});

test('text as deep as it is long costs no stack', () => {
  const depth = 2_000_000;
  for (const text of [
    '['.repeat(depth) + ']'.repeat(depth),
    '['.repeat(depth),
    `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`,
  ]) {
    const bytes = Buffer.from(text);
    const found = emptySurvey();
    survey(bytes, 0, bytes.length, found);
    assert.equal(found.depth, depth);
    assert.equal(skipValue(bytes, 0, bytes.length), text.endsWith('[') ? UNENDED : bytes.length);
  }
});
