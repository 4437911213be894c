import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Deltas } from '../../../../src/workers/roller/deltas.js';
import { BinaryReader } from '../../../../src/workers/roller/rows.js';
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
  channel: fc.constantFrom('', 'web'),
  minute: fc.constantFrom(0, 59, 60, 1_439, 1_440, 29_932_561),
  second: fc.nat(59),
  uid: fc.constantFrom(0, 1, 2 ** 28 - 1),
});

/** Of each cell its entries, sorted: `name channel minute entry entry …`. */
function expected(events: readonly Event[]): string[] {
  const cells = new Map<string, number[]>();
  for (const { name, channel, minute, second, uid } of events) {
    const key = `${name} ${channel} ${minute}`;
    cells.set(key, [...(cells.get(key) ?? []), second * 2 ** 32 + uid]);
  }
  return [...cells].map(([key, entries]) => line(key, entries)).toSorted();
}

function line(key: string, entries: readonly number[]): string {
  return `${key} ${entries.toSorted((a, b) => a - b).join(' ')}`;
}

function encoded(deltas: Deltas): string[] {
  const { bytes, minuteRows, hours } = deltas.encode((name, day) => (name === '' ? 1_000 : day));
  const reader = new BinaryReader(bytes);
  const lines: string[] = [];
  for (const { eventName, channel, hour } of hours) {
    const day = Math.floor(hour / 24);
    assert.deepEqual(
      [reader.string(), reader.string(), reader.uint32(), reader.int64(), reader.int64()],
      [eventName, channel, hour, day, 1_000],
    );
    const minutes = Array.from({ length: reader.varint() }, () => reader.uint32());
    assert.equal(reader.varint(), minutes.length);
    for (const minute of minutes) {
      assert.equal(Math.floor(minute / 60), hour);
      lines.push(
        line(
          `${eventName} ${channel} ${minute}`,
          Array.from({ length: reader.varint() }, () => reader.int64()),
        ),
      );
    }
  }
  assert.ok(reader.done);
  assert.equal(lines.length, minuteRows);
  return lines.toSorted();
}

test('what is added is written hour by hour, each event once, also in memory that was used before', () => {
  const deltas = new Deltas();
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      deltas.clear();
      for (const { name, channel, minute, second, uid } of events) {
        deltas.add(deltas.cell(deltas.group(name, channel), minute), second, uid);
        deltas.addKey(uid, minute);
        // A cell that stays empty is not written.
        deltas.cell(deltas.group(name, 'api'), minute);
      }
      assert.equal(deltas.empty, events.length === 0);
      assert.deepEqual(
        [...deltas.keys],
        events.flatMap(({ uid, minute }) => [uid, minute]),
      );
      assert.deepEqual(encoded(deltas), expected(events));
      const groups = [...deltas.groups()].flatMap(({ eventName, channel, minutes }) =>
        [...minutes].map(([minute, entries]) => line(`${eventName} ${channel} ${minute}`, entries)),
      );
      assert.deepEqual(groups.toSorted(), expected(events));
    }),
    tries<unknown>(300),
  );
});

test('its memory grows with what is added', () => {
  const deltas = new Deltas();
  const events = Array.from({ length: 5_000 }, (_, i) => ({
    name: 'view',
    channel: 'web',
    minute: i % 300,
    second: i % 60,
    uid: i,
  }));
  for (const { name, channel, minute, second, uid } of events) {
    deltas.add(deltas.cell(deltas.group(name, channel), minute), second, uid);
    deltas.addKey(uid, minute);
  }
  assert.equal(deltas.rows, events.length);
  assert.equal(deltas.keys.length, 2 * events.length);
  assert.deepEqual(encoded(deltas), expected(events));
});
