import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { metricsAnswer, pageOfRows } from '../../../../src/shared/metrics/answer.js';
import {
  type Dimension,
  encodeCursor,
  groupMembers,
  isTime,
  type MetricsQuestion,
  parseMetricsQuestion,
} from '../../../../src/shared/metrics/parameters.js';
import type { MetricsRow } from '../../../../src/shared/metrics/statement.js';
import { tries } from '../../../support/property.js';
import { readableAnswer } from '../../../support/readable-answer.js';
import { SECOND_PAGE as QUESTION } from '../../../support/second-page.js';

function textOf(question: MetricsQuestion, rows: readonly MetricsRow[], asOf: number): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(metricsAnswer(question, pageOfRows(question, rows), asOf));
}

function read(question: MetricsQuestion, rows: readonly MetricsRow[], asOf: number): { next_cursor?: string | null } {
  return JSON.parse(textOf(question, rows, asOf)) as { next_cursor?: string | null };
}

test('a row beyond the page becomes a cursor behind the last row of the page', () => {
  const rows = [
    [5, 'api', 9, 3],
    [5, 'web', 7, 7],
    [6, 'web', 1, 1],
  ];
  const answer = read(QUESTION, rows, 12.3459);
  assert.deepEqual(answer, {
    event_name: 'a',
    from: 3600,
    to: 7200,
    grouped_by: 'hour,channel',
    data: [
      { group: { hour: '1970-01-01T05:00:00Z', channel: 'api' }, total_events: 9, unique_users: 3 },
      { group: { hour: '1970-01-01T05:00:00Z', channel: 'web' }, total_events: 7, unique_users: 7 },
    ],
    next_cursor: encodeCursor(QUESTION, [5, 7, 'web']),
    as_of: 12.345,
  });
  const { after } = parseMetricsQuestion(
    `event_name=a&from=3600&to=7200&channel=web&group_by=hour,channel&cursor=${answer.next_cursor ?? ''}`,
  );
  assert.deepEqual(after, [5, 7, 'web']);
  assert.equal(read(QUESTION, rows.slice(0, 2), 1).next_cursor, null);
});

test('an answer that is no count is an error, not a number', () => {
  const question = { ...QUESTION, groupBy: [], after: undefined };
  for (const rows of [[], [['x', 1]], [[1.5, 1]], [['18446744073709551615', 1]], [[-1, 1]]]) {
    assert.throws(() => textOf(question, rows, 1), /where a count belongs/);
  }
});

const DIMENSIONS: readonly Dimension[] = ['hour', 'day', 'channel', 'event_name'];
/** Whatever a name may hold: quotes, controls, what JSON must escape. */
const name = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.constantFrom('', '"', '\\', '\u2028', 'web'));
const seconds = fc.option(fc.nat(4_000_000_000), { nil: undefined });

interface Asked {
  readonly question: MetricsQuestion;
  readonly rows: MetricsRow[];
}

const asked: fc.Arbitrary<Asked> = fc
  .record({
    groupBy: fc.uniqueArray(fc.constantFrom(...DIMENSIONS), { maxLength: 2 }),
    eventName: fc.option(name, { nil: undefined }),
    channel: fc.option(name, { nil: undefined }),
    from: seconds,
    to: seconds,
    isClamped: fc.boolean(),
    limit: fc.integer({ min: 1, max: 4 }),
  })
  .chain(({ isClamped, ...rest }) => {
    const values = groupMembers(rest.groupBy).map((member) => (isTime(member) ? fc.nat(500_000) : name));
    // ClickHouse gives counts as numbers or, where they may be large, as text.
    const count = fc.oneof(fc.nat(), fc.maxSafeNat().map(String));
    const row = fc.tuple(...values, count, count);
    const rows = fc.array(row, rest.groupBy.length === 0 ? { minLength: 1, maxLength: 1 } : { maxLength: 6 });
    const question = { ...rest, after: undefined, ...(isClamped ? { asked: { from: undefined } } : {}) };
    return rows.map((some) => ({ question, rows: some }));
  });

test('the text of an answer is, byte by byte, what JSON.stringify makes of it', () => {
  fc.assert(
    fc.property(asked, fc.double({ min: 0, max: 5e9, noNaN: true }), ({ question, rows }, asOf) => {
      assert.equal(textOf(question, rows, asOf), JSON.stringify(readableAnswer(question, rows, asOf)));
    }),
    tries<[Asked, number]>(500),
  );
});
