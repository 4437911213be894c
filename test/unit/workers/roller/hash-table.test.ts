import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HashTable } from '../../../../src/workers/roller/hash-table.js';
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
        for (const [i, [a, b, c, d]] of keys.entries()) table.add(a, b, c, d, i);
        for (const [i, [a, b, c, d]] of keys.entries()) {
          assert.equal(table.valueAt(table.find(a, b, c, d)), i);
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
  for (let i = 0; i < count; i += 1) table.add(7, 7, 7, i, i);
  let found = 0;
  for (let i = 0; i < count; i += 1) if (table.valueAt(table.find(7, 7, 7, i)) === i) found += 1;
  assert.equal(found, count);
  assert.ok(table.find(7, 7, 7, count) < 0);
});

test('a table with room for so many keys holds more as well', () => {
  const table = HashTable.for(5_000);
  for (let i = 0; i < 20_000; i += 1) table.add(i, 0, 0, 0, i);
  for (let i = 0; i < 20_000; i += 1) assert.equal(table.valueAt(table.find(i, 0, 0, 0)), i);
});
