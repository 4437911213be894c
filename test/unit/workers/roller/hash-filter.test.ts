import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HashFilter } from '../../../../src/workers/roller/hash-filter.js';
import { type Key, randomKeys } from '../../../support/random-keys.js';

test('a full filter has every hash that was added, and few others', () => {
  for (const room of [1, 100, 100_000]) {
    const filter = new HashFilter(room);
    assert.ok(filter.capacity >= room);
    const added = randomKeys(filter.capacity);
    for (const hash of added) filter.add(...hash);
    assert.equal(filter.size, added.length);
    assert.ok(added.every((hash) => filter.mayHave(...hash)));
    if (room < 1_000) continue;
    const taken = randomKeys(20_000).filter((hash) => filter.mayHave(...hash)).length;
    // 1.2 % by arithmetic: 236, and its square root is 15.
    assert.ok(taken > 100 && taken < 400, `${taken} of 20000`);
  }
});

test('an empty filter has nothing, and one bit of each word decides', () => {
  const filter = new HashFilter(1_000);
  assert.ok(!filter.mayHave(0, 0, 0, 0));
  filter.add(1, 2, 3, 4);
  assert.ok(filter.mayHave(4, 3, 2, 1));
  const others: readonly Key[] = [
    [0, 2, 3, 4],
    [1, 0, 3, 4],
    [1, 2, 0, 4],
    [1, 2, 3, 0],
  ];
  for (const other of others) assert.ok(!filter.mayHave(...other));
});
