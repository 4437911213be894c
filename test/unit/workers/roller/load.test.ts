import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { difference, rangesOf } from '../../../../src/workers/roller/load.js';
import { tries } from '../../../support/property.js';

const uids = fc.array(fc.nat(20), { maxLength: 12 });

test('what is counted plus the difference is what there is, or there is no difference that only adds', () => {
  fc.assert(
    fc.property(uids, uids, (now, before) => {
      const counted = { total: before.length, uids: Uint32Array.from(new Set(before)) };
      const added = difference({ total: now.length, uids: now }, before.length === 0 ? undefined : counted);
      const takesAway = now.length < before.length || before.some((uid) => !now.includes(uid));
      assert.equal(added === undefined, takesAway);
      if (added === undefined) return;
      assert.equal(counted.total + added.total, now.length);
      assert.deepEqual(new Set([...counted.uids, ...added.uids]), new Set(now));
      assert.ok(added.uids.every((uid) => !before.includes(uid)));
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
