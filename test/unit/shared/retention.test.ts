import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clampQuestion } from '../../../src/shared/metrics/retention.js';
import { encodeCursor, parseMetricsQuestion } from '../../../src/shared/metrics/parameters.js';
import { metricsAnswer } from '../../../src/shared/metrics/answer.js';
import { retentionEdgeDay, retentionEdgeMs, retentionEdgeS } from '../../../src/shared/retention.js';

const MIDNIGHT = Date.UTC(2026, 2, 1);

test('the edge is the start of the UTC day so many days ago, and moves at midnight', () => {
  assert.equal(retentionEdgeMs(1, MIDNIGHT), Date.UTC(2026, 1, 28));
  assert.equal(retentionEdgeMs(1, MIDNIGHT + 86_399_999.999), Date.UTC(2026, 1, 28));
  assert.equal(retentionEdgeMs(1, MIDNIGHT - 0.001), Date.UTC(2026, 1, 27));
  assert.equal(retentionEdgeMs(365, MIDNIGHT), Date.UTC(2025, 2, 1));
  assert.equal(retentionEdgeS(1, MIDNIGHT), Date.UTC(2026, 1, 28) / 1000);
  assert.equal(retentionEdgeDay(1, MIDNIGHT), Date.UTC(2026, 1, 28) / 86_400_000);
  assert.deepEqual([retentionEdgeMs(undefined, MIDNIGHT), retentionEdgeS(undefined, MIDNIGHT)], [-Infinity, undefined]);
});

const EDGE = 1_000_000;
const headOf = (query: string): unknown[] => {
  const question = clampQuestion(parseMetricsQuestion(query), EDGE);
  const text = Buffer.from(metricsAnswer(question, { counts: [0, 0] }, 0)).toString();
  const { event_name, from, to } = JSON.parse(text) as Record<string, unknown>;
  return [event_name, from, to];
};

test('a range is cut off at the edge and echoed so, a range that has no start counts from it', () => {
  const asked = (query: string) => clampQuestion(parseMetricsQuestion(query), EDGE);
  assert.deepEqual([asked('event_name=a').from, ...headOf('event_name=a')], [EDGE, 'a', undefined, undefined]);
  assert.deepEqual([asked('event_name=a&from=5').from, ...headOf('event_name=a&from=5')], [EDGE, 'a', EDGE, undefined]);
  const later = `event_name=a&from=${EDGE + 1}&to=${EDGE + 2}`;
  assert.deepEqual([asked(later).from, ...headOf(later)], [EDGE + 1, 'a', EDGE + 1, EDGE + 2]);
  const before = 'event_name=a&from=5&to=7';
  assert.deepEqual([asked(before).from, ...headOf(before)], [EDGE, 'a', EDGE, 7]);
  const question = parseMetricsQuestion('event_name=a&from=5');
  assert.equal(clampQuestion(question, undefined), question);
});

test('a cursor goes on when the edge has moved', () => {
  for (const query of ['event_name=a&group_by=day', 'event_name=a&group_by=day&from=5']) {
    const question = parseMetricsQuestion(query);
    for (const edge of [undefined, EDGE, EDGE + 86_400]) {
      const cursor = encodeCursor(clampQuestion(question, edge), [12]);
      assert.deepEqual(parseMetricsQuestion(`${query}&cursor=${cursor}`).after, [12]);
    }
    const other = encodeCursor(clampQuestion(parseMetricsQuestion(`event_name=a&group_by=day&from=6`), EDGE), [12]);
    assert.throws(() => parseMetricsQuestion(`${query}&cursor=${other}`), /is not a next_cursor/);
  }
});
