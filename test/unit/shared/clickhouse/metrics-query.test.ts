import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeCursor,
  type MetricsQuestion,
  parseMetricsQuestion,
} from '../../../../src/shared/clickhouse/metrics-parameters.js';
import { buildMetricsStatement, readMetricsAnswer } from '../../../../src/shared/clickhouse/metrics-query.js';

const LIMITS = { timeoutMs: 1500 };
const QUESTION: MetricsQuestion = {
  eventName: 'a',
  from: 3600,
  to: 7200,
  channel: 'web',
  groupBy: ['hour', 'channel'],
  limit: 2,
  after: [5, 7, 'web'],
};

test('no value that a client sent is in the text of the query', () => {
  const { query } = buildMetricsStatement('db', QUESTION, LIMITS);
  const text = fc.string({ minLength: 1, unit: 'grapheme' });
  fc.assert(
    fc.property(text, text, text, fc.nat(), fc.nat(), (eventName, channel, name, from, count) => {
      const other = { ...QUESTION, eventName, channel, from, to: from + count, after: [count, count, name] };
      const statement = buildMetricsStatement('db', other, LIMITS);
      assert.equal(statement.query, query);
      assert.equal(statement.parameters['event_name'], eventName);
      assert.equal(statement.parameters['channel'], channel);
    }),
  );
});

test('a page in time order is read from the hour or day that the page before ended in', () => {
  const fromMs = (question: Partial<MetricsQuestion>): unknown =>
    buildMetricsStatement('db', { ...QUESTION, ...question }, LIMITS).parameters['from_ms'];
  assert.equal(fromMs({ after: undefined }), 3_600_000);
  assert.equal(fromMs({}), 5 * 3_600_000);
  assert.equal(fromMs({ after: [0, 7, 'web'] }), 3_600_000);
  assert.equal(fromMs({ from: undefined }), 5 * 3_600_000);
  assert.equal(fromMs({ groupBy: ['day'], after: [5] }), 5 * 86_400_000);
  assert.equal(fromMs({ groupBy: ['channel'], after: [5, 'web'] }), 3_600_000);
  assert.equal(fromMs({ groupBy: [], after: undefined, from: undefined }), undefined);
});

test('limits reach ClickHouse in its units', () => {
  const { settings } = buildMetricsStatement('db', QUESTION, LIMITS);
  assert.equal(settings.max_execution_time, 1.5);
  assert.equal(settings.max_result_rows, '3');
});

test('a row beyond the page becomes a cursor behind the last row of the page', () => {
  const rows = [
    [5, 'api', 9, 3],
    [5, 'web', 7, 7],
    [6, 'web', 1, 1],
  ];
  const answer = readMetricsAnswer(QUESTION, rows, 12.3459);
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
  assert.equal(readMetricsAnswer(QUESTION, rows.slice(0, 2), 1).next_cursor, null);
});

test('an answer that is no count is an error, not a number', () => {
  const question = { ...QUESTION, groupBy: [], after: undefined };
  for (const rows of [[], [['x', 1]], [[1.5, 1]], [['18446744073709551615', 1]]]) {
    assert.throws(() => readMetricsAnswer(question, rows, 1), /where a count belongs/);
  }
});
