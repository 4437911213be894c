import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  BUCKET_MS,
  type CellRead,
  daysOf,
  type Level,
  type Plan,
  planReads,
  type TimeRange,
} from '../../../../src/shared/metrics/plan.js';
import { tries } from '../../../support/property.js';

const LEVELS: readonly Level[] = [1, 2, 3, 4];

function asRange({ level, first, end }: CellRead): TimeRange {
  return { fromMs: first * BUCKET_MS[level], toMs: end * BUCKET_MS[level] };
}

/** Ends near the edges of buckets, and anywhere. */
const instant = fc
  .tuple(fc.integer({ min: 0, max: 5 * 24 * 60 }), fc.constantFrom(0, 0, 1, 999, 1000, 30_000, 59_999))
  .map(([minute, ms]) => minute * BUCKET_MS[1] + ms);
const range = fc
  .tuple(instant, fc.oneof(instant, fc.integer({ min: 0, max: 3 * BUCKET_MS[1] })))
  .map(([a, b]) => ({ fromMs: Math.min(a, b), toMs: Math.max(a, b) }));
const nearRange = fc
  .tuple(instant, fc.integer({ min: 0, max: 3 * BUCKET_MS[2] }))
  .map(([fromMs, length]) => ({ fromMs, toMs: fromMs + length }));
const coarsest = fc.constantFrom<Level>(2, 3, 4);

/** Bucket by bucket, from the coarsest down: what is whole within the range and not inside a coarser one that is. */
function bruteForce({ fromMs, toMs }: TimeRange, from: Level): Set<string> {
  const chosen = new Set<string>();
  const isWhole = (level: Level, bucket: number): boolean =>
    level <= from && bucket * BUCKET_MS[level] >= fromMs && (bucket + 1) * BUCKET_MS[level] <= toMs;
  for (const level of LEVELS) {
    for (let bucket = Math.floor(fromMs / BUCKET_MS[level]); bucket * BUCKET_MS[level] < toMs; bucket += 1) {
      const start = bucket * BUCKET_MS[level];
      const isInCoarser = LEVELS.some((above) => above > level && isWhole(above, Math.floor(start / BUCKET_MS[above])));
      if (isWhole(level, bucket) && !isInCoarser) chosen.add(`${level} ${bucket}`);
    }
  }
  return chosen;
}

function bucketsOf({ reads }: Plan): string[] {
  return reads.flatMap(({ level, first, end }) =>
    Array.from({ length: end - first }, (_, index) => `${level} ${first + index}`),
  );
}

test('a plan reads the buckets that a search from the coarsest down finds, each once', () => {
  fc.assert(
    fc.property(fc.oneof(range, nearRange), coarsest, (asked, level) => {
      const buckets = bucketsOf(planReads(asked, level));
      const expected = bruteForce(asked, level);
      assert.equal(buckets.length, expected.size);
      assert.deepEqual(new Set(buckets), expected);
    }),
    tries(300),
  );
});

test('reads and ends follow each other without gap or overlap from one end of the range to the other', () => {
  fc.assert(
    fc.property(fc.oneof(range, nearRange), coarsest, (asked, level) => {
      const { reads, ends } = planReads(asked, level);
      const pieces = [...reads.map(asRange), ...ends].toSorted((a, b) => a.fromMs - b.fromMs);
      let at = asked.fromMs;
      for (const { fromMs, toMs } of pieces) {
        assert.equal(fromMs, at);
        assert.ok(toMs > fromMs);
        at = toMs;
      }
      assert.equal(at, asked.toMs);
      assert.ok(ends.length <= 2);
      for (const { fromMs, toMs } of ends) assert.ok(toMs - fromMs < (reads.length === 0 ? 2 : 1) * BUCKET_MS[1]);
    }),
    tries(1000),
  );
});

test('events counted through the cells and ends of a plan are the events of the range', () => {
  const event = fc.oneof(instant, fc.integer({ min: 0, max: 5 * BUCKET_MS[3] }));
  fc.assert(
    fc.property(fc.array(event, { maxLength: 200 }), fc.oneof(range, nearRange), coarsest, (events, asked, level) => {
      const cells = new Map<string, number>();
      for (const ts of events) {
        for (const at of LEVELS) {
          const cell = `${at} ${Math.floor(ts / BUCKET_MS[at])}`;
          cells.set(cell, (cells.get(cell) ?? 0) + 1);
        }
      }
      const plan = planReads(asked, level);
      const inCells = bucketsOf(plan).reduce((sum, bucket) => sum + (cells.get(bucket) ?? 0), 0);
      const within = ({ fromMs, toMs }: TimeRange): number => events.filter((ts) => ts >= fromMs && ts < toMs).length;
      assert.equal(inCells + plan.ends.reduce((sum, piece) => sum + within(piece), 0), within(asked));
    }),
    tries(500),
  );
});

test('a range without an instant in it needs nothing, and one within two minutes no cell', () => {
  assert.deepEqual(planReads({ fromMs: 5, toMs: 5 }, 3), { reads: [], ends: [] });
  assert.deepEqual(planReads({ fromMs: 9, toMs: 5 }, 3), { reads: [], ends: [] });
  assert.deepEqual(planReads({ fromMs: 30_000, toMs: 119_000 }, 3), {
    reads: [],
    ends: [{ fromMs: 30_000, toMs: 119_000 }],
  });
});

test('a range across days takes minutes, hours, days, hours and minutes, and less than a minute at its ends', () => {
  const fromMs = Date.UTC(2026, 1, 25, 13, 58, 30);
  const toMs = Date.UTC(2026, 1, 28, 2, 3, 1);
  const minutes = (ms: number): number => ms / BUCKET_MS[1];
  const hours = (ms: number): number => ms / BUCKET_MS[2];
  const days = (ms: number): number => ms / BUCKET_MS[3];
  assert.deepEqual(planReads({ fromMs, toMs }, 3), {
    reads: [
      { level: 1, first: minutes(Date.UTC(2026, 1, 25, 13, 59)), end: minutes(Date.UTC(2026, 1, 25, 14)) },
      { level: 2, first: hours(Date.UTC(2026, 1, 25, 14)), end: hours(Date.UTC(2026, 1, 26)) },
      { level: 3, first: days(Date.UTC(2026, 1, 26)), end: days(Date.UTC(2026, 1, 28)) },
      { level: 2, first: hours(Date.UTC(2026, 1, 28)), end: hours(Date.UTC(2026, 1, 28, 2)) },
      { level: 1, first: minutes(Date.UTC(2026, 1, 28, 2)), end: minutes(Date.UTC(2026, 1, 28, 2, 3)) },
    ],
    ends: [
      { fromMs, toMs: Date.UTC(2026, 1, 25, 13, 59) },
      { fromMs: Date.UTC(2026, 1, 28, 2, 3), toMs },
    ],
  });
});

test('a read touches the days of its first and of its last bucket', () => {
  assert.deepEqual(daysOf({ level: 4, first: 2, end: 4 }), { first: 10, last: 19 });
  assert.deepEqual(daysOf({ level: 3, first: 4, end: 6 }), { first: 4, last: 5 });
  assert.deepEqual(daysOf({ level: 2, first: 23, end: 24 }), { first: 0, last: 0 });
  assert.deepEqual(daysOf({ level: 2, first: 23, end: 25 }), { first: 0, last: 1 });
  assert.deepEqual(daysOf({ level: 1, first: 1440, end: 2880 }), { first: 1, last: 1 });
});
