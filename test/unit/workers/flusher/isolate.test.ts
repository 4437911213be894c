import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isolate, type Rows, takeApart } from '../../../../src/workers/flusher/isolate.js';
import { tries } from '../../../support/property.js';

/** As ClickHouse 26.7 says it, to a part whose bad row is the first of the constraint, counted from 1. */
function violation(row: number, value: string): Error {
  return new Error(
    `Constraint \`c\` for table penstock.events (21c47654) is violated at row ${row + 1}. ` +
      `Expression: (user_id != 'bad'). Column values: user_id = '${value}'. `,
  );
}

interface Run {
  readonly isolated: readonly number[];
  /** Rows that were stored, in the order in which they were. */
  readonly stored: readonly number[];
  readonly inserts: number;
  /** Rows sent, all INSERTs together. */
  readonly sent: number;
  readonly parts: number;
}

/** A ClickHouse that takes every row but the bad ones, and names the first of them or not. */
async function run(count: number, bad: ReadonlySet<number>, named: boolean): Promise<Run> {
  const stored: number[] = [];
  let inserts = 0;
  let sent = 0;
  let parts = 0;
  const answer = (rows: Rows): Error | undefined => {
    const at = rows.findIndex((row) => bad.has(row));
    if (at === -1) return undefined;
    return named ? violation(at, 'bad at row 3') : new Error('Value is out of range');
  };
  const all = Array.from({ length: count }, (_, row) => row);
  const refusal = answer(all);
  assert.ok(refusal);
  const isolated = await isolate(count, refusal, (rows) => {
    inserts += 1;
    sent += rows.length;
    const error = answer(rows);
    if (error !== undefined) return Promise.resolve(error);
    parts += 1;
    for (const row of rows) stored.push(row);
    return Promise.resolve(undefined);
  });
  return { isolated: isolated.map(({ row }) => row), stored, inserts, sent, parts };
}

test('exactly the bad rows are isolated, and every other row is stored once, whether the error names rows or not', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 3_000 }),
      fc.array(fc.nat(), { minLength: 1, maxLength: 60 }),
      fc.boolean(),
      async (count, places, named) => {
        const bad = new Set(places.map((place) => place % count));
        const { isolated, stored, inserts } = await run(count, bad, named);
        assert.deepEqual(
          isolated,
          [...bad].toSorted((a, b) => a - b),
        );
        assert.equal(stored.length, count - bad.size);
        assert.equal(new Set([...stored, ...isolated]).size, count);
        const bound = named ? 4 * bad.size + 2 : 2 * bad.size * (Math.log2(count) + 1) + 2;
        assert.ok(inserts <= bound, `${inserts} INSERTs for ${bad.size} of ${count}`);
      },
    ),
    tries(200),
  );
});

test('200 named rows of 5 000 take some 400 INSERTs, nearly all of them refused, and few parts in the table', async () => {
  const bad = new Set(Array.from({ length: 200 }, (_, i) => i * 25 + 3));
  const { inserts, parts } = await run(5_000, bad, true);
  assert.ok(inserts < 420, String(inserts));
  assert.ok(parts <= 20, String(parts));
});

test('a full segment with thousands of bad rows is not sent over and over', async () => {
  const count = 500_000;
  const bad = new Set(Array.from({ length: 5_000 }, (_, i) => i * 100));
  const { sent } = await run(count, bad, true);
  assert.ok(sent < 20 * count, `${sent / count} times`);
});

test('a named row is counted from 1, and what the values quote is not taken for a name', () => {
  const part = [10, 11, 12, 13];
  assert.deepEqual(takeApart(part, violation(2, 'is violated at row 1').message), {
    putBy: [10, 11],
    next: [[12], [13]],
  });
  assert.deepEqual(takeApart(part, violation(0, 'x').message), { putBy: [], next: [[10], [11, 12, 13]] });
  assert.deepEqual(takeApart(part, violation(3, 'x').message), { putBy: [10, 11, 12], next: [[13]] });
});

test('a row that cannot be, or no name at all, means halves', () => {
  const next = [
    [0, 1],
    [2, 3],
  ];
  for (const message of [violation(4, 'x').message, violation(-1, 'x').message, 'user_id is bad at row 2', '']) {
    assert.deepEqual(takeApart([0, 1, 2, 3], message), { putBy: [], next }, message);
  }
});

test('a named row that is taken alone after all is stored, and the search goes on', async () => {
  const stored: number[] = [];
  let calls = 0;
  const isolated = await isolate(6, violation(2, 'x'), (rows) => {
    calls += 1;
    // Wrong about the row the first time: it is 4 that is bad.
    if (rows.includes(4))
      return Promise.resolve(rows.length === 1 ? violation(0, 'x') : violation(rows.indexOf(4), 'x'));
    stored.push(...rows);
    return Promise.resolve(undefined);
  });
  assert.deepEqual(
    isolated.map(({ row }) => row),
    [4],
  );
  assert.deepEqual(
    stored.toSorted((a, b) => a - b),
    [0, 1, 2, 3, 5],
  );
  assert.ok(calls < 10);
});
