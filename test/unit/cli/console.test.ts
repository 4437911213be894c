import assert from 'node:assert/strict';
import { test } from 'node:test';
import { count, formatCount, table } from '../../../src/cli/console.js';

test('a table has texts to the left, numbers to the right, and nothing behind its lines', () => {
  const rows = [
    ['a', 1_234_567, 'x'],
    ['long name', 8, undefined],
  ];
  assert.equal(
    table(['name', 'n', 'last'], rows),
    'name               n  last\na          1,234,567  x\nlong name          8  -\n',
  );
});

test('thousands are set apart, and one thing is not several', () => {
  assert.deepEqual([0, 999, 1_000, 12_345_678].map(formatCount), ['0', '999', '1,000', '12,345,678']);
  assert.deepEqual([count(0, 'row'), count(1, 'row'), count(1_000, 'row')], ['0 rows', '1 row', '1,000 rows']);
});
