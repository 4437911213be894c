import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { after, before, test } from 'node:test';
import { BinaryReader, readBinary } from '../../src/shared/clickhouse/binary.js';
import { sortUnique, writeBitmapState } from '../../src/workers/roller/bitmap-state.js';
import { RowBinaryWriter } from '../../src/workers/roller/row-binary-writer.js';
import { UserSet } from '../../src/workers/cells/user-set.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';

/** Sets as ClickHouse writes them are read as what ClickHouse says is in them, and the other way round. */

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

test('sets that are written here are what ClickHouse reads', async () => {
  const { client } = clickhouse;
  const { signal } = new AbortController();
  const writer = new RowBinaryWriter();
  const shapes = [...SHAPES, ['none', 'number', 0], ['one', '7', 1], ['thirty-two', 'number * 100000', 32]] as const;
  const sets: Uint32Array[] = [];
  for (const [name, number, count] of shapes) {
    const listed = await readBinary(
      client,
      `SELECT toUInt32(${number}) FROM numbers(${count}) FORMAT RowBinary`,
      signal,
    );
    const users = new Uint32Array(listed.buffer.slice(listed.byteOffset, listed.byteOffset + listed.length));
    const right = new Set(users);
    const unique = sortUnique(users, users.length);
    assert.equal(unique, right.size, name);
    writeBitmapState(writer, users, unique);
    sets.push(users.slice(0, unique));
  }
  const table = `${await clickhouse.newDatabase()}.sets`;
  await client.command({
    query: `CREATE TABLE ${table} (set AggregateFunction(groupBitmap, UInt32)) ENGINE = Memory`,
  });
  const { stream } = await client.exec({
    query: `INSERT INTO ${table} FORMAT RowBinary`,
    values: Readable.from([writer.bytes()], { objectMode: false }),
  });
  await finished(stream.resume());
  // As sets, and put together.
  const read = new BinaryReader(
    await readBinary(client, `SELECT arraySort(bitmapToArray(set)) FROM ${table} FORMAT RowBinary`, signal),
  );
  for (const [index, [name]] of shapes.entries()) assert.deepEqual(read.words(read.varint()), sets[index], name);
  assert.ok(read.done);
  const united = await readBinary(
    client,
    `SELECT toInt64(groupBitmapMerge(set)) FROM ${table} FORMAT RowBinary`,
    signal,
  );
  assert.equal(new BinaryReader(united).int64(), new Set(sets.flatMap((set) => [...set])).size);
});
