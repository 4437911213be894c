import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { WrittenUsers } from '../../../../src/workers/roller/written-users.js';
import { tries } from '../../../support/property.js';

const set = fc.record({
  cell: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
  users: fc.uniqueArray(fc.oneof(fc.nat(300), fc.nat(40_000), fc.nat(2 ** 28 - 1)), { minLength: 1, maxLength: 40 }),
});
/** What becomes of a commit: it takes place; it does not; it does, and another roller's is next. */
const commit = fc.record({
  sets: fc.array(set, { maxLength: 8 }),
  fate: fc.constantFrom('done', 'done', 'lost', 'other'),
});

test('whatever becomes of commits, and however little room there is, cells have all of their users', () => {
  const room = fc.constantFrom(0, 300, 2_000, 20_000, 1_000_000);
  fc.assert(
    fc.property(room, fc.array(commit, { maxLength: 30 }), (bytesMax, commits) => {
      const written = new WrittenUsers(bytesMax);
      const stored = new Map<string, Set<number>>();
      const into = new Uint32Array(40);
      let mark = { roller: 'me', number: 1 };
      for (const { sets, fate } of commits) {
        written.begin(mark);
        const taken: [cell: string, user: number][] = [];
        for (const { cell, users } of sets) {
          const count = written.take(cell, Uint32Array.from(users).toSorted(), users.length, into);
          for (const user of into.subarray(0, count)) taken.push([cell, user]);
          assert.ok(written.bytes <= bytesMax, 'more than its room');
        }
        if (fate === 'lost') {
          mark = { roller: `${mark.roller}'`, number: mark.number };
          continue;
        }
        for (const [cell, user] of taken) stored.set(cell, (stored.get(cell) ?? new Set()).add(user));
        for (const { cell, users } of sets) {
          for (const user of users) assert.ok(stored.get(cell)?.has(user), `${user} is missing in ${cell}`);
        }
        mark = { ...mark, number: mark.number + (fate === 'other' ? 2 : 1) };
      }
    }),
    tries<unknown>(300),
  );
});

test('cells that are written all the time stay known while others come by, and those of the past make room', () => {
  const written = new WrittenUsers(3 * 1_000);
  const users = Uint32Array.from({ length: 1_000 }, (_, i) => i);
  const into = new Uint32Array(1_000);
  let late = 0;
  for (let number = 1; number <= 20; number += 1) {
    written.begin({ roller: 'me', number });
    for (const cell of ['hour', 'day'])
      assert.equal(written.take(cell, users, 1_000, into), number === 1 ? 1_000 : 0, `${cell} of commit ${number}`);
    for (let i = 0; i < 30; i += 1) late += written.take(`late ${number} ${i}`, users, 1_000, into);
  }
  assert.equal(late, 20 * 30 * 1_000);
  for (let number = 21; number <= 24; number += 1) {
    written.begin({ roller: 'me', number });
    for (const cell of ['next', 'second', 'third', 'fourth', 'fifth']) written.take(cell, users, 1_000, into);
  }
  assert.equal(written.take('next', users, 1_000, into), 0);
});
