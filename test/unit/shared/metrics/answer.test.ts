import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readMetricsAnswer } from '../../../../src/shared/metrics/answer.js';
import { encodeCursor, parseMetricsQuestion } from '../../../../src/shared/metrics/parameters.js';
import { SECOND_PAGE as QUESTION } from '../../../support/second-page.js';

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
