import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Generations, HashTable } from '../../../../src/workers/roller/hash-table.js';
import { tries } from '../../../support/property.js';

const word = fc.oneof(fc.constantFrom(0, 1, 0xffffffff), fc.nat(0xffffffff));
const key = fc.tuple(word, word, word, word);

test('a table holds what was added, and nothing else', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(key, { selector: String, maxLength: 300 }),
      fc.array(key, { maxLength: 50 }),
      (keys, others) => {
        const table = new HashTable();
        for (const [i, [a, b, c, d]] of keys.entries()) table.add(a, b, c, d, i, i % 100);
        assert.equal(table.size, keys.length);
        for (const [i, [a, b, c, d]] of keys.entries()) {
          const slot = table.find(a, b, c, d);
          assert.deepEqual([table.valueAt(slot), table.tagAt(slot)], [i, i % 100]);
        }
        const added = new Set(keys.map(String));
        for (const other of others) {
          assert.equal(table.find(...other) >= 0, added.has(String(other)));
        }
      },
    ),
    tries<unknown>(200),
  );
});

test('a table grows, and keys that differ in one word only do not get in each other’s way', () => {
  const table = new HashTable();
  const count = 100_000;
  for (let i = 0; i < count; i += 1) table.add(7, 7, 7, i, i, 1);
  let found = 0;
  for (let i = 0; i < count; i += 1) if (table.valueAt(table.find(7, 7, 7, i)) === i) found += 1;
  assert.equal(found, count);
  assert.ok(table.find(7, 7, 7, count) < 0);
  assert.ok(table.bytes < count * 100);
});

test('two generations are remembered, and what is found in the older one is remembered anew', () => {
  const memory = new Generations(10);
  const fill = (from: number): void => {
    for (let i = from; i < from + 10; i += 1) memory.add(i, 0, 0, 0, i, 0);
    memory.age();
  };
  memory.add(1_000, 0, 0, 0, 5, 3);
  memory.add(2_000, 0, 0, 0, 6, 4);
  const since = memory.generation;
  fill(0);
  assert.equal(memory.generation, since + 1);
  assert.ok(memory.remembers(since));
  assert.ok(memory.find(1_000, 0, 0, 0));
  assert.deepEqual([memory.value, memory.tag], [5, 3]);
  fill(100);
  assert.ok(!memory.remembers(since));
  assert.ok(!memory.find(2_000, 0, 0, 0), 'not found again, hence dropped');
  assert.ok(memory.find(1_000, 0, 0, 0), 'found again, hence kept');
});

test('a table that is cleared has nothing, and is filled anew', () => {
  const table = HashTable.for(5_000);
  const { slots } = table;
  for (const value of [1, 2]) {
    for (let i = 0; i < 5_000; i += 1) table.add(i, 0, 0, 0, value, 0);
    assert.equal(table.slots, slots);
    assert.equal(table.valueAt(table.find(4_999, 0, 0, 0)), value);
    table.clear();
    assert.equal(table.size, 0);
    for (let i = 0; i < 5_000; i += 1) assert.ok(table.find(i, 0, 0, 0) < 0);
  }
});
