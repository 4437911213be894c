import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UserSet, UserUnion } from '../../../../src/workers/cells/user-set.js';
import { tries } from '../../../support/property.js';

/** Held to a Set; that the portable form is read rightly, ClickHouse's own sets say (integration/user-sets.test.ts). */

const number = fc.oneof(fc.nat(70), fc.nat(70_000), fc.nat(2 ** 32 - 1), fc.constantFrom(65_535, 65_536, 2 ** 32 - 1));
/** Stretches, so that sets get pieces, and pieces become bitmaps. */
const stretch = fc
  .record({ from: fc.nat(200_000), length: fc.nat(9_000), step: fc.integer({ min: 1, max: 3 }) })
  .map(({ from, length, step }) => Array.from({ length }, (_, i) => from + i * step));
const numbers = fc
  .tuple(fc.array(number, { maxLength: 200 }), fc.array(stretch, { maxLength: 2 }))
  .map(([few, many]) => [...few, ...many.flat()]);

function setOf(users: Iterable<number>): UserSet {
  const set = new UserSet();
  for (const user of users) set.add(user);
  return set;
}

test('a set counts each number once, however often and in which order it is added', () => {
  fc.assert(
    fc.property(numbers, (users) => {
      const set = setOf(users);
      assert.equal(set.size, new Set(users).size);
      for (const user of users.toReversed()) set.add(user);
      assert.equal(set.size, new Set(users).size);
    }),
    tries<[number[]]>(60),
  );
});

test('a set of numbers that are there already is the same set', () => {
  const union = new UserUnion();
  fc.assert(
    fc.property(numbers, number, (users, more) => {
      const set = UserSet.of(Uint32Array.from([...users, ...users.slice(0, 10)]));
      assert.equal(set.size, new Set(users).size);
      for (const user of users) set.add(user);
      assert.equal(set.size, new Set(users).size);
      set.add(more);
      union.begin();
      union.add(set);
      assert.deepEqual([set.size, union.size], [new Set([...users, more]).size, new Set([...users, more]).size]);
    }),
    tries<[number[], number]>(60),
  );
});

test('a union counts what is in any of its sets, and nothing of the union before', () => {
  const union = new UserUnion();
  fc.assert(
    fc.property(fc.array(numbers, { maxLength: 5 }), (lists) => {
      union.begin();
      for (const list of lists) union.add(setOf(list));
      assert.equal(union.size, new Set(lists.flat()).size);
    }),
    tries<[number[][]]>(60),
  );
});

test('adding to a set later does not change a union that has it', () => {
  const [union, set] = [new UserUnion(), setOf(Array.from({ length: 10_000 }, (_, i) => i))];
  union.begin();
  union.add(set);
  set.add(20_000);
  assert.equal(union.size, 10_000);
});

test('the memory of a set follows what is in it', () => {
  const set = new UserSet();
  const empty = set.bytes;
  for (let user = 0; user < 4_096; user += 1) set.add(user * 2);
  const listed = set.bytes - empty;
  assert.ok(listed >= 4 * 4_096 && listed < 5 * 4_096, `${listed}`);
  set.add(1);
  const piece = set.bytes - empty;
  assert.ok(piece >= 8_192 && piece < 8_192 + 1_000, `${piece}`);
  for (let user = 0; user < 32_000; user += 1) set.add(user * 2 + 1);
  const bitmap = set.bytes - empty;
  assert.ok(bitmap >= 8_192 && bitmap < 8_192 + 1_000, `${bitmap}`);
});

test('what is no set in the portable form is refused', () => {
  assert.throws(() => new UserSet().addPortable(new Uint8Array(16)), /portable form/);
});
