import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { capacityFor, createRing, RingConsumer, RingProducer } from '../../../src/shared/ring.js';
import { tries } from '../../support/property.js';
import { runPeer } from '../../support/thread-peer.js';

const WRAPS_AT = 2 ** 32;

/** A ring whose positions begin at `position`, as after as many bytes. */
function ringAt(capacity: number, position: number): SharedArrayBuffer {
  const memory = createRing(capacity);
  const control = new Int32Array(memory, 0, 32);
  control[0] = position | 0;
  control[16] = position | 0;
  return memory;
}

/** Where positions may begin: anywhere, but mostly so that they pass 2^32 soon. */
function startOf(capacity: number): fc.Arbitrary<number> {
  return fc.oneof(
    { weight: 1, arbitrary: fc.nat(capacity).map((at) => at & ~7) },
    { weight: 3, arbitrary: fc.nat(3 * capacity).map((before) => WRAPS_AT - 8 - (before & ~7)) },
  );
}

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('produce' as const),
      reserve: fc.nat(),
      shorter: fc.nat(40),
      commits: fc.integer({ min: 0, max: 9 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('publish' as const) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('next' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('release' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('releaseTo' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seek' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
);

interface Modelled {
  readonly payload: Buffer;
  /** The consumer's position before and behind it, as it told them; undefined where it has not come by. */
  before: number | undefined;
  behind: number | undefined;
}

/** The queue that a ring is meant to be. */
class Model {
  readonly memory: SharedArrayBuffer;
  producer: RingProducer;
  consumer: RingConsumer;
  /** Records that were committed and not released, in order. */
  readonly records: Modelled[] = [];
  published = 0;
  /** How many of `records` the consumer has passed. */
  taken = 0;
  #stamp = 0;

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.producer = new RingProducer(memory);
    this.consumer = new RingConsumer(memory);
  }

  produce(reserve: number, shorter: number, commits: boolean): void {
    const room = reserve % (this.producer.maxPayload + 1);
    const used = this.producer.usedBytes;
    const at = this.producer.reserve(room);
    if (at === -1) {
      // A record of up to half the ring fits into an empty one; beyond that, padding before the wrap may stand in the way.
      assert.ok(used > 0, 'no room in an empty ring');
      assert.ok(used + 2 * (this.producer.capacity / 2) > this.producer.capacity);
      return;
    }
    assert.ok(at % 8 === 0 && at >= 8 && at + room <= this.producer.capacity, 'within the memory, and aligned');
    if (!commits) return;
    const payload = Buffer.alloc(Math.max(0, room - shorter), (this.#stamp += 1));
    payload.copy(this.producer.bytes, at);
    this.producer.commit(payload.length);
    this.records.push({ payload, before: undefined, behind: undefined });
  }

  publish(): void {
    assert.equal(this.producer.publish(), this.published < this.records.length);
    this.published = this.records.length;
  }

  next(): void {
    const record = this.records[this.taken];
    const isThere = this.taken < this.published;
    assert.equal(this.consumer.hasNext, isThere);
    const before = this.consumer.position;
    assert.equal(this.consumer.next(), isThere);
    if (!isThere || record === undefined) return;
    const { bytes, offset, length, position } = this.consumer;
    assert.ok(bytes.subarray(offset, offset + length).equals(record.payload), 'the record is what was written');
    record.before = before;
    record.behind = position;
    this.taken += 1;
  }

  /** Every record that the consumer holds still has its bytes. */
  assertHeld(): void {
    const here = this.consumer.position;
    this.records.slice(0, this.taken).forEach((record) => {
      this.consumer.seek(record.before ?? 0);
      assert.ok(this.consumer.next());
      const { bytes, offset, length } = this.consumer;
      assert.ok(
        bytes.subarray(offset, offset + length).equals(record.payload),
        'a record that is held was overwritten',
      );
    });
    this.consumer.seek(here);
  }

  release(count: number): void {
    const last = this.records[count - 1];
    if (last?.behind === undefined) return;
    if (count === this.taken) this.consumer.release();
    else this.consumer.releaseTo(last.behind);
    this.records.splice(0, count);
    this.published -= count;
    this.taken -= count;
  }

  seek(index: number): void {
    const record = this.records[index];
    if (record?.before === undefined || index >= this.taken) return;
    this.consumer.seek(record.before);
    this.taken = index;
  }
}

test('a ring does what a queue does, whatever the sizes and wherever its positions stand', () => {
  const setting = fc
    .constantFrom(64, 128, 256, 1024)
    .chain((capacity) => fc.tuple(fc.constant(capacity), startOf(capacity)));
  fc.assert(
    fc.property(setting, fc.array(step, { maxLength: 200, size: 'max' }), ([capacity, start], steps) => {
      const model = new Model(ringAt(capacity, start));
      for (const action of steps) {
        if (action.kind === 'produce') model.produce(action.reserve, action.shorter, action.commits > 1);
        else if (action.kind === 'publish') model.publish();
        else if (action.kind === 'next') model.next();
        else if (action.kind === 'release') model.release(model.taken);
        else if (action.kind === 'releaseTo') model.release(action.which % (model.taken + 1));
        else if (action.kind === 'seek') model.seek(action.which % (model.taken + 1));
        else if (model.published === model.records.length) {
          // The next generation of either side goes on where the last one stopped.
          model.producer = new RingProducer(model.memory);
          model.consumer = new RingConsumer(model.memory);
          model.taken = 0;
        }
        model.assertHeld();
      }
      model.publish();
      while (model.taken < model.records.length) model.next();
      assert.equal(model.consumer.next(), false);
      model.release(model.taken);
      assert.equal(model.producer.usedBytes, 0);
    }),
    tries(400),
  );
});

test('the longest record passes from every position, also over 2^32', () => {
  const capacity = 256;
  for (let offset = 0; offset < 2 * capacity; offset += 8) {
    for (const start of [offset, WRAPS_AT - capacity + offset]) {
      const memory = ringAt(capacity, start % WRAPS_AT);
      const producer = new RingProducer(memory);
      const consumer = new RingConsumer(memory);
      for (let round = 0; round < 5; round += 1) {
        const at = producer.reserve(producer.maxPayload);
        assert.notEqual(at, -1, `position ${start}, round ${round}`);
        producer.bytes.fill(round + 1, at, at + producer.maxPayload);
        producer.commit(producer.maxPayload);
        assert.ok(producer.publish() && consumer.next());
        assert.equal(consumer.length, producer.maxPayload);
        assert.ok(
          consumer.bytes
            .subarray(consumer.offset, consumer.offset + consumer.length)
            .every((byte) => byte === round + 1),
        );
        consumer.release();
      }
    }
  }
});

test('a record that can never pass is an error, not a wait', () => {
  for (const capacity of [64, 1024]) {
    const producer = new RingProducer(createRing(capacity));
    assert.notEqual(producer.reserve(producer.maxPayload), -1);
    assert.throws(() => producer.reserve(producer.maxPayload + 1), RangeError);
  }
});

test('a capacity is a power of two, and the smallest that takes the payload', () => {
  for (const capacity of [0, 1, 63, 65, 100, 2 ** 31]) assert.throws(() => createRing(capacity), RangeError);
  for (const payload of [0, 24, 25, 1000, 1024 * 1024]) {
    const capacity = capacityFor(payload);
    assert.ok(new RingProducer(createRing(capacity)).maxPayload >= payload);
    if (capacity > 64) assert.ok(new RingProducer(createRing(capacity / 2)).maxPayload < payload);
  }
});

test('an empty record is a record', () => {
  const memory = createRing(64);
  const producer = new RingProducer(memory);
  const consumer = new RingConsumer(memory);
  producer.reserve(0);
  producer.commit(0);
  producer.publish();
  assert.ok(consumer.next());
  assert.deepEqual([consumer.length, consumer.next()], [0, false]);
});

test('between two threads that sleep on doorbells nothing is lost, repeated, reordered or torn', async () => {
  for (const { capacity, records, start } of [
    { capacity: 4096, records: 60_000, start: WRAPS_AT - 1_000_000 },
    { capacity: 64, records: 20_000, start: WRAPS_AT - 4096 },
    { capacity: 1 << 20, records: 60_000, start: 0 },
  ]) {
    const ring = ringAt(capacity, start);
    const { bytes, seen, fault } = await runPeer({ kind: 'ring', ring, records });
    assert.equal(fault, undefined, fault);
    assert.equal(seen, records);
    assert.ok(bytes > capacity * 20);
  }
});
