import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { difference, rangesOf } from '../../../../src/workers/roller/load.js';
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

test('minutes become ranges', () => {
  assert.deepEqual(rangesOf('a', [5, 3, 4, 9]), [
    { eventName: 'a', from: 3, to: 6 },
    { eventName: 'a', from: 9, to: 10 },
  ]);
});
