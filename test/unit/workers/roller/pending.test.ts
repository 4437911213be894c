import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextWindow, rangesToTheEnd } from '../../../../src/workers/roller/pending.js';
import { Shipped } from '../../../../src/workers/roller/shipped.js';

const batch = (token: string, fromS: number, toS: number, rows = 10) => ({
  token,
  rows,
  receivedFromUs: fromS * 1e6,
  receivedToUs: toS * 1e6,
});

test('a window takes the oldest batches that lie together, up to a number of rows', () => {
  assert.equal(nextWindow([], 500_000), undefined);
  assert.deepEqual(nextWindow([batch('b', 20, 21), batch('a', 10, 11)], 500_000), {
    fromUs: 10e6,
    toUs: 11e6,
    tokens: ['a'],
    rowsPerSecond: 10,
  });
  assert.deepEqual(
    nextWindow([batch('b', 11.5, 12), batch('a', 10, 13), batch('c', 13.9, 14), batch('d', 15.1, 16)], 500_000),
    {
      fromUs: 10e6,
      toUs: 14e6,
      tokens: ['a', 'b', 'c'],
      rowsPerSecond: 7.5,
    },
  );
  const large = [batch('a', 1, 2, 300_000), batch('b', 1, 2, 200_000), batch('c', 1, 2, 1)];
  assert.deepEqual(nextWindow(large, 500_000)?.tokens, ['a', 'b']);
  assert.equal(nextWindow([batch('a', 1, 1, 100)], 500_000)?.rowsPerSecond, 1_000, 'a moment is no pace');
  assert.deepEqual(nextWindow([batch('a', 1, 2, 9_000_000)], 500_000)?.tokens, ['a'], 'however large, one at least');
});

test('what is read to the end has no end behind the last batch, and a little room behind those of a slow clock', () => {
  assert.deepEqual(rangesToTheEnd([]), []);
  assert.deepEqual(rangesToTheEnd([batch('b', 20, 21), batch('a', 18, 25)]), [{ fromUs: 18e6, toUs: Infinity }]);
  assert.deepEqual(rangesToTheEnd([batch('c', 90, 91), batch('a', 10, 11), batch('b', 16, 17)]), [
    { fromUs: 10e6, toUs: 22e6 },
    { fromUs: 90e6, toUs: Infinity },
  ]);
});

test('segments count as rolled in order, and those from before the start when the roller has caught up', () => {
  const through: number[] = [];
  const shipped = new Shipped((ordinal) => through.push(ordinal));
  shipped.announce(4, []);
  shipped.announce(5, [batch('a', 1, 1), batch('b', 1, 1)]);
  shipped.announce(6, []);
  shipped.announce(7, [batch('c', 1, 1)]);
  shipped.rolled(['c', 'a']);
  assert.deepEqual(through, []);
  shipped.caughtUp();
  assert.deepEqual(through, [4]);
  shipped.rolled(['b']);
  assert.deepEqual(through, [4, 7]);
  shipped.announce(8, []);
  assert.deepEqual(through, [4, 7, 8]);
});
