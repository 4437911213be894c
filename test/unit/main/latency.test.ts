import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LATENCY_BOUNDS_S, LatencyHistogram } from '../../../src/main/latency.js';
import { tries } from '../../support/property.js';

test('bounds ascend, and each belongs to its own bucket', () => {
  assert.deepEqual(
    LATENCY_BOUNDS_S,
    LATENCY_BOUNDS_S.toSorted((a, b) => a - b),
  );
  for (const [i, bound] of LATENCY_BOUNDS_S.entries()) {
    const histogram = new LatencyHistogram();
    histogram.observe(bound);
    histogram.observe(bound * 1.000001);
    assert.deepEqual([histogram.counts[i], histogram.counts[i + 1]], [1, 1], String(bound));
  }
});

test('every observation is in exactly the bucket of its size, and in the sum', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 100, noNaN: true })), (seconds) => {
      const histogram = new LatencyHistogram();
      for (const each of seconds) histogram.observe(each);
      const bounds = [-1, ...LATENCY_BOUNDS_S, Infinity];
      const expected = bounds
        .slice(1)
        .map((bound, i) => seconds.filter((each) => each <= bound && each > (bounds[i] ?? 0)).length);
      assert.deepEqual([...histogram.counts], expected);
      assert.ok(Math.abs(histogram.sumS - seconds.reduce((sum, each) => sum + each, 0)) < 1e-6);
    }),
    tries(200),
  );
});
