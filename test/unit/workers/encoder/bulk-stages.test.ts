import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHANNEL_SLOT, type ChannelMemory, createChannel } from '../../../../src/shared/channel.js';
import { createDoorbell, Doorbell } from '../../../../src/shared/doorbell.js';
import { GROUP_MAX_BYTES, ROWS_RECORD_BYTES, STAGES } from '../../../../src/shared/limits.js';
import { RingProducer } from '../../../../src/shared/ring.js';
import { BulkStages } from '../../../../src/workers/encoder/bulk-stages.js';
import { RowsWriter } from '../../../../src/workers/encoder/rows-writer.js';
import { Group, LogChannel } from '../../../../src/workers/flusher/group-commit.js';

const BODY_MAX_BYTES = 16 * 1024 * 1024;
const MANY_BYTES = 10 * 1024 * 1024;

/** An encoder's end of a channel, and the log thread's. */
class Station {
  readonly memory: ChannelMemory = createChannel(BODY_MAX_BYTES, 10);
  readonly stages = new BulkStages(this.memory);
  readonly rows = new RowsWriter(new RingProducer(this.memory.rows), new Doorbell(createDoorbell()));
  readonly log = new LogChannel(1, this.memory);
  readonly group = new Group();

  /** Encodes `bytes` of rows into the stage that is free and passes them on. */
  pass(fill: string, bytes: number, count: number): boolean {
    assert.ok(this.stages.next(), 'no stage is free');
    const { sink } = this.stages;
    sink.buffer.fill(fill, 0, bytes);
    sink.at = bytes;
    const passed = this.stages.passOn(this.rows, sink.buffer.subarray(0, bytes), count);
    this.rows.publish();
    return passed;
  }

  /** One commit: what it held, as letter and length of each piece. */
  commit(): string[] {
    this.group.gather([this.log]);
    const pieces = this.group.pieces.map((piece) => {
      const letter = String.fromCodePoint(piece[0] ?? 0);
      assert.ok(Buffer.from(piece).equals(Buffer.alloc(piece.length, letter)), 'rows have changed on their way');
      return `${letter}${piece.length}`;
    });
    this.group.durable();
    return pieces;
  }
}

test('the rows of a body are in one commit, however many they are', () => {
  for (const bytes of [
    1,
    1000,
    ROWS_RECORD_BYTES,
    ROWS_RECORD_BYTES + 1,
    GROUP_MAX_BYTES,
    MANY_BYTES,
    BODY_MAX_BYTES,
  ]) {
    const station = new Station();
    assert.ok(station.pass('a', bytes, 7));
    station.group.gather([station.log]);
    assert.deepEqual([station.group.bytes, station.group.rows, station.group.pieces.length], [bytes, 7, 1]);
    station.group.durable();
    assert.equal(new Int32Array(station.memory.slots)[CHANNEL_SLOT.durableRows], 7);
    assert.deepEqual(station.commit(), []);
  }
});

test('what was passed on before and behind a large body is committed in that order', () => {
  const station = new Station();
  station.pass('a', 100, 1);
  station.pass('b', MANY_BYTES, 1000);
  station.pass('c', 100, 1);
  const commits: string[][] = [];
  for (let commit = station.commit(); commit.length > 0; commit = station.commit()) commits.push(commit);
  assert.deepEqual(commits.flat(), ['a100', `b${MANY_BYTES}`, 'c100']);
  assert.equal(commits.filter((pieces) => pieces.includes(`b${MANY_BYTES}`)).length, 1);
});

test('few rows leave their stage at once: any number of small bodies may be on their way', () => {
  const station = new Station();
  for (let i = 0; i < STAGES * 3; i += 1) assert.ok(station.pass(String(i), 1000, 10));
  assert.equal(station.commit().length, STAGES * 3);
});

test('a stage whose rows are not synced is not written to, and is free when they are', () => {
  const station = new Station();
  const taken: Buffer[] = [];
  for (let i = 0; i < STAGES; i += 1) {
    assert.ok(station.pass(String(i), MANY_BYTES, 100));
    taken.push(station.stages.sink.buffer);
  }
  assert.equal(new Set(taken).size, STAGES, 'each body has a stage of its own');
  assert.equal(station.stages.next(), false);
  // Gathered is not synced.
  station.group.gather([station.log]);
  assert.equal(station.stages.next(), false);
  station.group.durable();
  assert.ok(station.stages.next());
  assert.equal(station.stages.sink.buffer, taken[0], 'the first is the first to be free');
  for (let i = 1; i < STAGES; i += 1) assert.deepEqual(station.commit(), [`${i}${MANY_BYTES}`]);
});

test('rows that the disk refused free their stage as well, once main has answered for them', () => {
  const station = new Station();
  for (let i = 0; i < STAGES; i += 1) station.pass('a', MANY_BYTES, 100);
  for (let i = 0; i < STAGES; i += 1) {
    station.group.gather([station.log]);
    station.group.failed('disk_full');
    assert.equal(station.group.settled(), false);
    assert.equal(station.stages.next(), i > 0);
    Atomics.store(new Int32Array(station.memory.slots), CHANNEL_SLOT.failureSeen, i + 1);
    assert.ok(station.group.settled());
    assert.ok(station.stages.next());
  }
});

test('stages are held and freed in the same way when the count of rows begins again', () => {
  const station = new Station();
  // All but the last few of 2^32 rows have gone before.
  for (let i = 0; i < 4; i += 1) {
    station.rows.append(Buffer.from('x'), 2 ** 30 - 10);
    station.rows.publish();
    station.commit();
  }
  for (let round = 0; round < 5; round += 1) {
    for (let i = 0; i < STAGES; i += 1) assert.ok(station.pass('a', MANY_BYTES, 9));
    assert.equal(station.stages.next(), false, `round ${round}`);
    for (let i = 0; i < STAGES; i += 1) assert.deepEqual(station.commit(), [`a${MANY_BYTES}`]);
  }
});

test('a body for which the ring has no room stays in its stage and is passed on later', () => {
  for (const bytes of [1000, MANY_BYTES]) {
    const station = new Station();
    const filler = Buffer.alloc(ROWS_RECORD_BYTES - 64, 'f');
    while (station.rows.append(filler, 1));
    const crumb = Buffer.from('f');
    while (station.rows.append(crumb, 1));
    assert.equal(station.pass('a', bytes, 5), false);
    assert.ok(!station.commit().includes(`a${bytes}`));
    while (station.commit().length > 0);
    const { stages, rows } = station;
    assert.ok(stages.passOn(rows, stages.sink.buffer.subarray(0, bytes), 5));
    rows.publish();
    assert.deepEqual(station.commit(), [`a${bytes}`]);
  }
});
