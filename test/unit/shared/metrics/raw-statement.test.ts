import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { MetricsQuestion } from '../../../../src/shared/metrics/parameters.js';
import { buildRawStatement } from '../../../../src/shared/metrics/raw-statement.js';
import { SECOND_PAGE as QUESTION } from '../../../support/second-page.js';

const LIMITS = { timeoutMs: 1500 };

test('no value that a client sent is in the text of the query', () => {
  const { query } = buildRawStatement('db', QUESTION, LIMITS);
  const text = fc.string({ minLength: 1, unit: 'grapheme' });
  fc.assert(
    fc.property(text, text, text, fc.nat(), fc.nat(), (eventName, channel, name, from, count) => {
      const other = { ...QUESTION, eventName, channel, from, to: from + count, after: [count, count, name] };
      const statement = buildRawStatement('db', other, LIMITS);
      assert.equal(statement.query, query);
      assert.equal(statement.parameters['event_name'], eventName);
      assert.equal(statement.parameters['channel'], channel);
    }),
  );
});

test('a page in time order is read from the hour or day that the page before ended in', () => {
  const fromMs = (question: Partial<MetricsQuestion>): unknown =>
    buildRawStatement('db', { ...QUESTION, ...question }, LIMITS).parameters['from_ms'];
  assert.equal(fromMs({ after: undefined }), 3_600_000);
  assert.equal(fromMs({}), 5 * 3_600_000);
  assert.equal(fromMs({ after: [0, 7, 'web'] }), 3_600_000);
  assert.equal(fromMs({ from: undefined }), 5 * 3_600_000);
  assert.equal(fromMs({ groupBy: ['day'], after: [5] }), 5 * 86_400_000);
  assert.equal(fromMs({ groupBy: ['channel'], after: [5, 'web'] }), 3_600_000);
  assert.equal(fromMs({ groupBy: [], after: undefined, from: undefined }), undefined);
});

test('limits reach ClickHouse in its units', () => {
  const { settings } = buildRawStatement('db', QUESTION, LIMITS);
  assert.equal(settings.max_execution_time, 1.5);
  assert.equal(settings.max_result_rows, '3');
});
