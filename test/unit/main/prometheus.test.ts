import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerTally } from '../../../src/main/answer-tally.js';
import { LatencyHistogram } from '../../../src/main/latency.js';
import { PrometheusPage } from '../../../src/main/prometheus.js';
import { Counters, createCounters } from '../../../src/shared/counters.js';

function pageOf(answers: AnswerTally): PrometheusPage {
  return new PrometheusPage({
    counters: new Counters(createCounters()),
    latency: new LatencyHistogram(),
    refusals: new Map(),
    answers,
    version: '1.2.3',
    now: () => ({
      openRequests: 0,
      bodyBytes: 0,
      walBytes: 0,
      pendingSegments: 0,
      oldestUnshippedSeconds: 0,
      oldestUnrolledSeconds: 0,
      ready: true,
      clickhouseUp: true,
      encoders: 1,
      cellBytes: 0,
      deadLetterBytes: 0,
    }),
  });
}

test('answers are counted by where they come from, and why not from rollups', async () => {
  const answers = new AnswerTally();
  const page = pageOf(answers);
  const series = async (): Promise<string[]> =>
    (await page.render()).split('\n').filter((line) => line.startsWith('penstock_metrics_'));
  answers.answeredFromCells();
  answers.missedInCells('cold');
  answers.answeredFromRollups();
  answers.answeredFromRollups();
  answers.answeredFromRaw('exception');
  answers.putAgain();
  const expected = [
    'penstock_metrics_answers_total{source="cells",reason=""} 1',
    'penstock_metrics_answers_total{source="rollups",reason=""} 2',
    'penstock_metrics_answers_total{source="raw",reason="behind"} 0',
    'penstock_metrics_answers_total{source="raw",reason="empty"} 0',
    'penstock_metrics_answers_total{source="raw",reason="exception"} 1',
    'penstock_metrics_answers_total{source="raw",reason="names"} 0',
    'penstock_metrics_answers_total{source="raw",reason="changing"} 0',
    'penstock_metrics_cells_misses_total{reason="unowned"} 0',
    'penstock_metrics_cells_misses_total{reason="cold"} 1',
    'penstock_metrics_cells_misses_total{reason="large"} 0',
    'penstock_metrics_cells_misses_total{reason="failed"} 0',
    'penstock_metrics_repeats_total 1',
    'penstock_metrics_cells_bytes 0',
  ];
  assert.deepEqual(await series(), expected);
  // Read again, not added again.
  assert.deepEqual(await series(), expected);
});
