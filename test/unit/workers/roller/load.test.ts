import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { difference } from '../../../../src/workers/roller/load.js';
import { selectRange, selectSeconds } from '../../../../src/workers/roller/selection.js';
import { tries } from '../../../support/property.js';

const entries = fc.array(fc.nat(20), { maxLength: 12 });

test('what is counted plus the difference is what there is, or there is no difference that only adds', () => {
  fc.assert(
    fc.property(entries, entries, (now, before) => {
      const added = difference(now, before.length === 0 ? undefined : before);
      const times = (list: readonly number[], entry: number): number => list.filter((other) => other === entry).length;
      assert.equal(
        added === undefined,
        before.some((entry) => times(before, entry) > times(now, entry)),
      );
      const sorted = (list: readonly number[]): number[] => list.toSorted((a, b) => a - b);
      if (added !== undefined) assert.deepEqual(sorted([...before, ...added]), sorted(now));
    }),
    tries<unknown>(500),
  );
});

test('a selection knows what belongs to it', () => {
  const seconds = selectSeconds([
    { eventName: 'a', second: 61 },
    { eventName: 'b', second: 62 },
  ]);
  assert.ok(seconds.has('a', 61) && seconds.has('b', 62));
  assert.ok(!seconds.has('a', 62) && !seconds.has('c', 61));
  const range = selectRange({ eventName: 'a', from: 30, to: 90 });
  assert.ok(range.has('a', 30) && range.has('a', 89));
  assert.ok(!range.has('a', 29) && !range.has('a', 90) && !range.has('b', 30));
  assert.ok(selectRange({ eventName: undefined, from: 30, to: 90 }).has('b', 30));
});
