import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ArrivalClock } from '../../../src/shared/clock.js';
import { tries } from '../../support/property.js';

const EPOCH_MS = 1_700_000_000_000;

test('arrival times are whole, never equal and never run backwards, whatever the host’s clock does', (t) => {
  const step = fc.record({
    /** The monotonic clock, in ms. */
    passes: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 50, noNaN: true })),
    /** What the wall clock is set by beside it. */
    jumps: fc.oneof(
      { weight: 5, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: -1e8, max: 1e8 }) },
    ),
    events: fc.nat(20),
  });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      let monotonic = performance.now();
      let wall = EPOCH_MS;
      const now = t.mock.method(performance, 'now', () => monotonic);
      const date = t.mock.method(Date, 'now', () => Math.floor(wall));
      const clock = new ArrivalClock();
      let last = 0;
      for (const { passes, jumps, events } of steps) {
        monotonic += passes;
        wall += passes + jumps;
        clock.refresh();
        for (let i = 0; i < events; i += 1) {
          const time = clock.next();
          assert.ok(Number.isSafeInteger(time) && time > last, `${time} after ${last}`);
          last = time;
        }
      }
      now.mock.restore();
      date.mock.restore();
    }),
    tries(200),
  );
});

test('a clock that was set forward is believed, one that was set back is walked over', (t) => {
  let wall = EPOCH_MS;
  t.mock.method(Date, 'now', () => wall);
  const clock = new ArrivalClock();
  const time = (): number => {
    clock.refresh();
    return clock.next();
  };
  assert.ok(Math.abs(time() - wall * 1000) < 2_000_000);
  wall += 3_600_000;
  const forward = time();
  assert.ok(Math.abs(forward - wall * 1000) < 2_000_000);
  wall -= 7_200_000;
  assert.equal(time(), forward + 1);
  assert.equal(time(), forward + 2);
  wall += 10_800_000;
  assert.ok(Math.abs(time() - wall * 1000) < 2_000_000);
});
