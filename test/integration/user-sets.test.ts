import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BinaryReader, readBinary } from '../../src/workers/roller/rows.js';
import { UserSet } from '../../src/workers/cells/user-set.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';

/** Sets as ClickHouse writes them are read as what ClickHouse says is in them. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(async () => {
  await clickhouse.stop();
});

/** Expressions of a number, over a count of numbers: lists, bitmaps, runs, all of them beside each other. */
const SHAPES: readonly (readonly [name: string, number: string, count: number])[] = [
  ['thirty-three', 'number * 7', 33],
  ['a list', 'number * 1000', 4_000],
  ['a bitmap', 'number * 3', 20_000],
  ['one run', 'number', 50_000],
  ['a run over pieces', '65000 + number', 200_000],
  ['at the end of all numbers', '4294967295 - number * 2', 70_000],
  ['lists, bitmaps and runs', 'if(number < 9000, number, 100000 + (cityHash64(number) % 5000000))', 60_000],
  ['scattered', 'cityHash64(number)', 5_000],
  ['few runs', 'intDiv(number, 300) * 100000 + number % 300', 3_000],
  ['exactly a full list', 'number * 2', 4_096],
  ['one more than a list', 'number * 2', 4_097],
  ['a full piece', 'number', 65_536],
];

test('sets in the portable form are read as ClickHouse has them', async () => {
  const { signal } = new AbortController();
  for (const [name, number, count] of SHAPES) {
    const numbers = `SELECT toUInt32(${number}) AS user FROM numbers(${count})`;
    const state = new BinaryReader(
      await readBinary(clickhouse.client, `SELECT groupBitmapState(user) FROM (${numbers}) FORMAT RowBinary`, signal),
    );
    assert.equal(state.uint8(), 1, name);
    const bytes = state.bytes(state.varint());
    assert.ok(state.done);
    const listed = await readBinary(
      clickhouse.client,
      `SELECT DISTINCT user FROM (${numbers}) FORMAT RowBinary`,
      signal,
    );
    const users = new Uint32Array(listed.buffer.slice(listed.byteOffset, listed.byteOffset + listed.length));

    const read = new UserSet();
    read.addPortable(bytes);
    assert.equal(read.size, users.length, name);
    // Whoever is not in it already would make it larger.
    for (const user of users) read.add(user);
    assert.equal(read.size, users.length, name);

    // Into a set that has some of them, and others.
    const mixed = new UserSet();
    const others = [1, 2, 3, 70_000, 4_000_000_000];
    for (const user of [...others, ...users.slice(0, 5_000)]) mixed.add(user);
    mixed.addPortable(bytes);
    assert.equal(mixed.size, new Set([...others, ...users]).size, name);
  }
});
