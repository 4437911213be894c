import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CellRows } from '../../../../src/workers/roller/cell-rows.js';
import { Deltas } from '../../../../src/workers/roller/deltas.js';
import { UserSet } from '../../../../src/workers/cells/user-set.js';
import { BinaryReader } from '../../../../src/shared/clickhouse/binary.js';
import { tries } from '../../../support/property.js';

interface Event {
  readonly name: string;
  readonly channel: string;
  readonly minute: number;
  readonly second: number;
  readonly uid: number;
}

const event = fc.record({
  name: fc.constantFrom('view', 'buy'),
  channel: fc.constantFrom('email', 'web'),
  minute: fc.constantFrom(0, 59, 60, 1_439, 1_440, 29_932_561),
  second: fc.nat(59),
  uid: fc.constantFrom(0, 1, 2 ** 28 - 1),
});

interface Cell {
  total: number;
  readonly users: Set<number>;
  readonly entries: number[];
}

const HOURS_OF = { 2: 1, 3: 24, 4: 120 } as const;

class Cells {
  readonly #cells = new Map<string, Cell>();

  at(level: number, name: string, channel: string, bucket: number, generation: number): Cell {
    const key = [level, name, channel, bucket, generation].join(' ');
    const cell = this.#cells.get(key) ?? { total: 0, users: new Set(), entries: [] };
    this.#cells.set(key, cell);
    return cell;
  }

  get lines(): string[] {
    const numbers = (of: Iterable<number>): string => [...of].toSorted((a, b) => a - b).join(' ');
    return [...this.#cells]
      .map(([key, { total, users, entries }]) => `${key}: ${total}, ${numbers(users)}, ${numbers(entries)}`)
      .toSorted();
  }
}

/** Of rebuilt days there is one; all names have generations of their own. */
function generationOf(name: string, day: number): number {
  return name === '' ? 1_000 : day;
}

/** Every cell that the events are part of. */
function expected(events: readonly Event[], allNames: boolean): string[] {
  const cells = new Cells();
  for (const { name, channel, minute, second, uid } of events) {
    const day = Math.floor(minute / 1_440);
    const entry = second * 2 ** 32 + uid;
    const add = (cell: Cell, entries: number[]): void => {
      cell.total += 1;
      cell.users.add(uid);
      cell.entries.push(...entries);
    };
    add(cells.at(1, name, channel, minute, day), [entry]);
    for (const of of allNames ? [name, ''] : [name]) {
      for (const level of [2, 3, 4] as const) {
        const bucket = Math.floor(minute / 60 / HOURS_OF[level]);
        const generation = level === 4 ? 0 : generationOf(of, day);
        for (const each of [channel, '']) add(cells.at(level, of, each, bucket, generation), []);
      }
    }
  }
  return cells.lines;
}

const cellRows = new CellRows();

/** The same, of the rows of a commit; what they add goes into `cells`. */
function encoded(deltas: Deltas, allNames: boolean, mark = { roller: 'me', number: 7 }, cells = new Cells()): string[] {
  const { bytes, rows } = cellRows.encode(deltas, generationOf, allNames, mark);
  const reader = new BinaryReader(bytes);
  for (let row = 0; row < rows; row += 1) {
    const [level, name, channel, bucket] = [reader.uint8(), reader.string(), reader.string(), reader.uint32()];
    const [generation, total, commits] = [reader.int64(), reader.int64(), reader.int64()];
    const users = readUsers(reader);
    const entries = Array.from({ length: reader.varint() }, () => reader.int64());
    if (row === 0) {
      assert.deepEqual([level, name, channel, bucket, generation, total], [0, mark.roller, '', 0, 0, 0]);
      assert.equal(commits, mark.number);
      assert.equal(users.length + entries.length, 0);
      continue;
    }
    assert.equal(commits, 0);
    const cell = cells.at(level, name, channel, bucket, generation);
    cell.total += total;
    cell.entries.push(...entries);
    for (const user of users) cell.users.add(user);
  }
  assert.ok(reader.done);
  return cells.lines;
}

/** Small sets are lists; that ClickHouse reads the others, integration/user-sets.test.ts says. */
function readUsers(reader: BinaryReader): number[] {
  if (reader.uint8() === 0) return [...reader.words(reader.varint())];
  const set = new UserSet();
  set.addPortable(reader.bytes(reader.varint()));
  if (set.small !== undefined) return [...set.small.subarray(0, set.size)];
  return [...set.pieces].flatMap(([upper, { list, words, count }]) =>
    (words === undefined
      ? [...(list ?? [])].slice(0, count)
      : [...words].flatMap((word, at) =>
          Array.from({ length: 32 }, (_, bit) => bit).flatMap((bit) => ((word >>> bit) & 1 ? [at * 32 + bit] : [])),
        )
    ).map((low) => upper * 65_536 + low),
  );
}

function added(deltas: Deltas, events: readonly Event[]): void {
  deltas.clear();
  for (const { name, channel, minute, second, uid } of events) {
    deltas.add(deltas.cell(deltas.group(name, channel), minute), second, uid);
    deltas.addKey(uid, minute);
    // A cell that stays empty is not written.
    deltas.cell(deltas.group(name, 'api'), minute);
  }
}

test('every cell that an event is part of gets it, once, also in memory that was used before', () => {
  const deltas = new Deltas();
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), fc.boolean(), (events, allNames) => {
      added(deltas, events);
      assert.equal(deltas.empty, events.length === 0);
      assert.deepEqual(
        [...deltas.keys],
        events.flatMap(({ uid, minute }) => [uid, minute]),
      );
      assert.deepEqual(encoded(deltas, allNames), expected(events, allNames));
    }),
    tries<unknown>(300),
  );
});

const busyHour = fc.array(
  fc.record({
    name: fc.constantFrom('view', 'buy'),
    channel: fc.constantFrom('email', 'web'),
    minute: fc.constantFrom(0, 1, 59),
    second: fc.nat(59),
    uid: fc.nat(99),
  }),
  { minLength: 100, maxLength: 200 },
);

test('a cell gets its users from one of the commits behind one another, and from the next where one did not take place', () => {
  const deltas = new Deltas();
  const commits = fc.array(fc.record({ events: busyHour, takesPlace: fc.boolean() }), { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(commits, (steps) => {
      const cells = new Cells();
      const counted: Event[] = [];
      let mark = { roller: 'a', number: 1 };
      for (const { events, takesPlace } of steps) {
        added(deltas, events);
        encoded(deltas, true, mark, takesPlace ? cells : new Cells());
        if (takesPlace) counted.push(...events);
        // Whoever does not know of its commit begins again under another name.
        mark = takesPlace ? { ...mark, number: mark.number + 1 } : { roller: `${mark.roller}a`, number: mark.number };
      }
      assert.deepEqual(cells.lines, expected(counted, true));
    }),
    tries<unknown>(50),
  );
});

test('users that cells have got are not written once more', () => {
  const deltas = new Deltas();
  const events = Array.from({ length: 100 }, (_, i) => ({ name: 'buy', channel: 'web', minute: 0, second: 0, uid: i }));
  added(deltas, events);
  encoded(deltas, true, { roller: 'a', number: 1 });
  const again = new Cells();
  encoded(deltas, true, { roller: 'a', number: 2 }, again);
  const users = again.lines.map((line) => line.split(', ')[1]?.split(' ').length ?? 0);
  assert.deepEqual(
    users.toSorted((a, b) => b - a),
    [100, ...Array.from({ length: 12 }, () => 1)],
  );
});

test('late events make one row of each cell, however many hours, names and channels they come from', () => {
  const deltas = new Deltas();
  const late = Array.from({ length: 600 }, (_, i) => ({
    name: i % 3 === 0 ? 'view' : 'buy',
    channel: i % 2 === 0 ? 'web' : 'email',
    minute: i * 61,
    second: 0,
    uid: i % 50,
  }));
  added(deltas, late);
  const cells = expected(late, true);
  assert.deepEqual(encoded(deltas, true), cells);
  assert.equal(cellRows.encode(deltas, generationOf, true, { roller: 'me', number: 7 }).rows, cells.length + 1);
});

test('who follows is told of every event, by minute', () => {
  const deltas = new Deltas();
  const line = (key: string, entries: Iterable<number>): string =>
    `${key} ${[...entries].toSorted((a, b) => a - b).join(' ')}`;
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      added(deltas, events);
      const minutes = new Map<string, number[]>();
      for (const { name, channel, minute, second, uid } of events) {
        const key = `${name} ${channel} ${minute}`;
        minutes.set(key, [...(minutes.get(key) ?? []), second * 2 ** 32 + uid]);
      }
      const groups = [...deltas.groups()].flatMap(({ eventName, channel, minutes: of }) =>
        [...of].map(([minute, entries]) => line(`${eventName} ${channel} ${minute}`, entries)),
      );
      assert.deepEqual(groups.toSorted(), [...minutes].map(([key, entries]) => line(key, entries)).toSorted());
    }),
    tries<unknown>(300),
  );
});

test('its memory grows with what is added, and large sets are bitmaps', () => {
  const deltas = new Deltas();
  const events = Array.from({ length: 60_000 }, (_, i) => ({
    name: 'view',
    channel: 'web',
    minute: i % 90,
    second: i % 60,
    uid: (i * 7_919) % 100_000,
  }));
  added(deltas, events);
  assert.equal(deltas.rows, events.length);
  assert.equal(deltas.keys.length, 2 * events.length);
  assert.deepEqual(encoded(deltas, true), expected(events, true));
});
