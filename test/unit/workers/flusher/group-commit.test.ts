import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHANNEL_SLOT, type ChannelMemory, createChannel, FAILURE_CODES } from '../../../../src/shared/channel.js';
import { createDoorbell, Doorbell, Sleeper } from '../../../../src/shared/doorbell.js';
import { GROUP_MAX_BYTES, ROWS_RECORD_BYTES, SEGMENT_MAX_ROWS } from '../../../../src/shared/limits.js';
import { RingProducer } from '../../../../src/shared/ring.js';
import { RowsWriter } from '../../../../src/workers/encoder/rows-writer.js';
import { Group, LogChannel } from '../../../../src/workers/flusher/group-commit.js';

interface Station {
  readonly memory: ChannelMemory;
  readonly rows: RowsWriter;
  readonly log: LogChannel;
  slot(name: keyof typeof CHANNEL_SLOT): number;
}

function station(id: number): Station {
  const memory = createChannel(1024, 10);
  const slots = new Int32Array(memory.slots);
  return {
    memory,
    rows: new RowsWriter(new RingProducer(memory.rows), new Doorbell(createDoorbell())),
    log: new LogChannel(id, memory),
    slot: (name) => Atomics.load(slots, CHANNEL_SLOT[name]),
  };
}

function publish({ rows }: Station, text: string, count = 1): void {
  assert.ok(rows.append(Buffer.from(text), count));
  rows.publish();
}

function textOf(group: Group): string {
  return Buffer.concat(group.pieces).toString();
}

test('a group is what all channels have published, each in its own order, and what is published later is in the next', () => {
  const stations = [station(1), station(2)];
  const [a, b] = stations as [Station, Station];
  const group = new Group();
  publish(a, 'a1', 2);
  publish(b, 'b1', 3);
  publish(a, 'a2');
  a.rows.append(Buffer.from('unpublished'), 1);
  group.gather(stations.map(({ log }) => log));
  assert.equal(group.rows, 6);
  assert.equal(group.bytes, textOf(group).length);
  assert.ok(['a1a2b1', 'b1a1a2'].includes(textOf(group)));
  publish(b, 'b2');
  assert.ok(!textOf(group).includes('b2'));
  group.durable();
  assert.deepEqual([group.rows, group.bytes, group.pieces.length], [0, 0, 0]);
  a.rows.publish();
  group.gather(stations.map(({ log }) => log));
  assert.equal(group.rows, 2);
});

test('no durable counter moves and no memory is given back before the group is durable', () => {
  const a = station(1);
  const bystander = station(2);
  const group = new Group();
  publish(a, 'row', 5);
  group.gather([a.log, bystander.log]);
  assert.equal(a.slot('durableRows'), 0);
  const used = new RingProducer(a.memory.rows).usedBytes;
  assert.ok(used > 0);
  group.durable();
  assert.equal(a.slot('durableRows'), 5);
  assert.equal(bystander.slot('durableRows'), 0);
  assert.equal(new RingProducer(a.memory.rows).usedBytes, 0);
});

test('an encoder that sleeps for want of room is woken when its rows are durable', () => {
  const a = station(1);
  const sleeper = new Sleeper(a.memory.encoderBell);
  const group = new Group();
  publish(a, 'row');
  group.gather([a.log]);
  sleeper.prepare();
  group.durable();
  // For ever, if nobody rang.
  sleeper.sleep(Infinity);
});

test('a failed group names its rows to main, and moves no counter before main has answered for every channel', () => {
  for (const code of FAILURE_CODES) {
    const a = station(1);
    const b = station(2);
    const idle = station(3);
    const channels = [a.log, b.log, idle.log];
    const group = new Group();
    publish(a, 'kept', 4);
    group.gather(channels);
    group.durable();
    publish(a, 'lost', 3);
    publish(b, 'lost', 2);
    group.gather(channels);
    group.failed(code);
    assert.deepEqual([a.slot('failedFrom'), a.slot('failedThrough'), a.slot('failures')], [4, 7, 1]);
    assert.deepEqual([b.slot('failedFrom'), b.slot('failedThrough'), b.slot('failures')], [0, 2, 1]);
    assert.equal(FAILURE_CODES[a.slot('failureCode')], code);
    assert.equal(idle.slot('failures'), 0);
    for (const answered of [a, b]) {
      assert.equal(group.settled(), false);
      assert.deepEqual([a.slot('durableRows'), b.slot('durableRows')], [4, 0]);
      Atomics.store(new Int32Array(answered.memory.slots), CHANNEL_SLOT.failureSeen, 1);
    }
    assert.equal(group.settled(), true);
    // The counters pass the failed rows only now: main knows which they are.
    assert.deepEqual([a.slot('durableRows'), b.slot('durableRows'), group.rows], [7, 2, 0]);
    publish(a, 'kept again');
    group.gather(channels);
    assert.equal(textOf(group), 'kept again');
    group.durable();
    assert.equal(a.slot('durableRows'), 8);
  }
});

test('a group keeps its bounds in bytes and rows, and the rest is in the next ones', () => {
  const wide = Array.from({ length: 4 }, (_, id) => station(id));
  const record = 'x'.repeat(ROWS_RECORD_BYTES - 64);
  let published = 0;
  for (const { rows } of wide) {
    while (rows.append(Buffer.from(record), 100)) published += 1;
    rows.publish();
  }
  const group = new Group();
  let gathered = 0;
  for (let groups = 0; groups < 10; groups += 1) {
    group.gather(wide.map(({ log }) => log));
    assert.ok(group.bytes <= GROUP_MAX_BYTES);
    gathered += group.pieces.length;
    group.durable();
  }
  assert.equal(gathered, published);

  const many = station(1);
  for (let i = 0; i < 200; i += 1) publish(many, 'x', 8000);
  let rows = 0;
  while (rows < 200 * 8000) {
    group.gather([many.log]);
    assert.ok(group.rows > 0 && group.rows <= SEGMENT_MAX_ROWS);
    rows += group.rows;
    group.durable();
  }
});

test('channels that always have more than a group holds all get on', () => {
  const stations = Array.from({ length: 5 }, (_, id) => station(id));
  const channels = stations.map(({ log }) => log);
  const record = Buffer.alloc(ROWS_RECORD_BYTES - 64);
  const group = new Group();
  const lastSeen = stations.map(() => 0);
  for (let round = 1; round <= 20; round += 1) {
    for (const { rows } of stations) {
      while (rows.append(record, 1));
      rows.publish();
    }
    const before = stations.map((each) => each.slot('durableRows'));
    group.gather(channels);
    group.durable();
    stations.forEach((each, i) => {
      if (each.slot('durableRows') > (before[i] ?? 0)) lastSeen[i] = round;
      assert.ok(round - (lastSeen[i] ?? 0) < stations.length, `channel ${i} waits since round ${lastSeen[i]}`);
    });
  }
});
