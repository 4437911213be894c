import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EncoderChannel } from '../../../src/main/encoder.js';
import { CHANNEL_SLOT, createChannel, type FAILURE_CODES, REQUEST, REQUEST_FLAG } from '../../../src/shared/channel.js';
import { createDoorbell, Doorbell } from '../../../src/shared/doorbell.js';
import { INLINE_BODY_MAX_BYTES } from '../../../src/shared/limits.js';
import { RingConsumer, RingProducer } from '../../../src/shared/ring.js';
import { ResultsWriter } from '../../../src/workers/encoder/results-writer.js';
import { RowsWriter } from '../../../src/workers/encoder/rows-writer.js';
import { Group, LogChannel } from '../../../src/workers/flusher/group-commit.js';
import { tries } from '../../support/property.js';

const U32 = 2 ** 32;

interface Request {
  readonly number: number;
  /** Rows of the channel before its first and up to its last, not wrapped. */
  readonly before: number;
  readonly through: number;
  outcome: 'open' | 'answered' | 'failed';
}

/** An encoder and a log thread on the real rings of one channel, moved by hand, and what main must be told. */
class World {
  readonly memory = createChannel(1024, 100);
  readonly main = new EncoderChannel(0, 1, this.memory);
  readonly #results = new ResultsWriter(new RingProducer(this.memory.results), new Doorbell(createDoorbell()));
  readonly #rows = new RowsWriter(new RingProducer(this.memory.rows), new Doorbell(createDoorbell()));
  readonly #log = new LogChannel(1, this.memory);
  readonly #group = new Group();
  readonly requests: Request[] = [];
  readonly failures: { readonly from: number; readonly through: number }[] = [];
  /** Answers that are not published yet, by request number. */
  readonly #unpublished = new Set<number>();
  /** Rows of the channel so far, and those that the log has settled, not wrapped. */
  #total: number;
  #settled: number;
  #failing = false;

  /** `start` rows have gone before. */
  constructor(start: number) {
    this.#total = start;
    this.#settled = start;
    if (start === 0) return;
    assert.ok(this.#rows.append(Buffer.from('before'), start));
    this.publish();
    this.#group.gather([this.#log]);
    this.#group.durable();
    this.collect();
  }

  #answer(before: number, status: number): void {
    const number = this.requests.length;
    const through = this.#total;
    this.requests.push({ number, before, through, outcome: 'open' });
    const body = `answer ${number}`;
    assert.ok(this.#results.hasRoom(body.length));
    const rowsThrough = before === through ? undefined : through % U32;
    const head = { number, status, rowsThrough, accepted: 1, refused: 0 };
    this.#results.write(head, body);
    this.#unpublished.add(number);
  }

  single(): void {
    if (!this.#rows.open()) return;
    this.#rows.sink.at += 50;
    this.#rows.rowDone();
    this.#total += 1;
    this.#answer(this.#total - 1, 202);
  }

  refused(): void {
    this.#answer(this.#total, 400);
  }

  /** Passes on a bulk body whole, in the ring or where it stands. */
  bulk(rows: number, staged: boolean): void {
    const bytes = rows * 40;
    const passed = staged ? this.#rows.appendStaged(1, bytes, rows) : this.#rows.append(Buffer.alloc(bytes), rows);
    if (!passed) return;
    this.#total += rows;
    this.#answer(this.#total - rows, 202);
  }

  /** One answer for that many rows. */
  leap(rows: number): void {
    assert.ok(this.#rows.append(Buffer.from('many rows'), rows));
    this.#total += rows;
    this.#answer(this.#total - rows, 202);
  }

  publish(): void {
    this.#results.publish();
    this.#rows.publish();
    this.#unpublished.clear();
  }

  /** One turn of the log thread; a failure holds it until main has answered. */
  log(fails: boolean): void {
    if (this.#failing) {
      if (!this.#group.settled()) return;
      this.#failing = false;
      return;
    }
    this.#group.gather([this.#log]);
    if (this.#group.rows === 0) return;
    const through = this.#settled + ((this.#log.through - (this.#settled % U32)) >>> 0);
    if (fails) {
      this.#failing = true;
      this.failures.push({ from: this.#settled, through });
      this.#group.failed('disk_full');
    } else {
      this.#group.durable();
    }
    this.#settled = through;
  }

  collect(): void {
    const due = this.requests.filter(
      ({ number, before, through, outcome }) =>
        outcome === 'open' && before === through && !this.#unpublished.has(number),
    );
    this.main.collect({
      answer: (number, status, body, accepted) => {
        const request = this.#settle(number, 'answered');
        assert.equal(Buffer.from(body).toString(), `answer ${number}`);
        assert.deepEqual([status, accepted], [request.before === request.through ? 400 : 202, 1]);
        assert.ok(
          request.through <= this.#settled || request.before === request.through,
          'answered before it was durable',
        );
        if (request.before === request.through) return;
        const lost = this.failures.find(({ from, through }) => request.before < through && from < request.through);
        assert.equal(lost, undefined, `request ${number} was answered 202 although rows of it failed`);
      },
      failed: (number, code: (typeof FAILURE_CODES)[number]) => {
        const request = this.#settle(number, 'failed');
        assert.equal(code, 'disk_full');
        const own = this.failures.find(({ from, through }) => request.before >= from && request.through <= through);
        assert.ok(own !== undefined, `request ${number} was refused although its rows did not fail`);
      },
    });
    for (const request of due)
      assert.equal(request.outcome, 'answered', 'an answer that waits for no rows was kept waiting');
  }

  #settle(number: number, outcome: 'answered' | 'failed'): Request {
    const request = this.requests[number];
    assert.ok(request !== undefined && request.outcome === 'open', `request ${number} is settled a second time`);
    request.outcome = outcome;
    return request;
  }

  /** Everything comes to its end. */
  finish(): void {
    this.publish();
    for (let turn = 0; turn < 10; turn += 1) {
      this.log(false);
      this.collect();
    }
    assert.deepEqual(
      this.requests.filter(({ outcome }) => outcome === 'open'),
      [],
    );
    assert.equal(new RingProducer(this.memory.results).usedBytes, 0);
    assert.equal(new RingProducer(this.memory.rows).usedBytes, 0);
  }
}

const step = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: 'single' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'refused' as const }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('bulk' as const),
      rows: fc.integer({ min: 1, max: 40 }),
      staged: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.constant({ kind: 'publish' as const }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('log' as const), fails: fc.boolean() }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'collect' as const }) },
);

test('every request is settled once: 202 only with all its rows durable, a refusal at once, also over 2^32 rows', () => {
  const start = fc.oneof(
    fc.constant(0),
    fc.nat(400).map((before) => U32 - 1 - before),
  );
  fc.assert(
    fc.property(start, fc.array(step, { maxLength: 120, size: 'max' }), (rowsBefore, steps) => {
      const world = new World(rowsBefore);
      for (const action of steps) {
        if (action.kind === 'single') world.single();
        else if (action.kind === 'refused') world.refused();
        else if (action.kind === 'bulk') world.bulk(action.rows, action.staged);
        else if (action.kind === 'publish') world.publish();
        else if (action.kind === 'log') world.log(action.fails);
        else world.collect();
      }
      world.finish();
    }),
    tries(300),
  );
});

test('a refusal overtakes what waits for the disk', () => {
  const world = new World(0);
  world.single();
  world.refused();
  world.publish();
  world.collect();
  assert.deepEqual(
    world.requests.map(({ outcome }) => outcome),
    ['open', 'answered'],
  );
  world.finish();
});

test('what comes before and behind a failure is not refused with it', () => {
  for (const failing of [0, 1, 2]) {
    const world = new World(U32 - 15);
    for (let body = 0; body < 3; body += 1) {
      world.bulk(10, body === 1);
      world.publish();
      world.log(body === failing);
      world.collect();
      world.log(false);
    }
    world.finish();
    assert.deepEqual(
      world.requests.map(({ outcome }) => outcome),
      [0, 1, 2].map((body) => (body === failing ? 'failed' : 'answered')),
    );
  }
});

test('failures are forgotten when the channel is far beyond them', () => {
  const world = new World(0);
  world.single();
  world.publish();
  world.log(true);
  world.collect();
  world.log(false);
  // More rows than the counter has, an answer to each piece of them.
  for (let i = 0; i < 40; i += 1) {
    world.leap(2 ** 27);
    world.publish();
    world.log(false);
    world.collect();
    assert.equal(world.requests.at(-1)?.outcome, 'answered', `leap ${i}`);
  }
  world.single();
  world.finish();
  assert.deepEqual([world.requests[0]?.outcome, world.requests.at(-1)?.outcome], ['failed', 'answered']);
});

interface Seen {
  readonly number: number;
  readonly flags: number;
  readonly arrivalUs: number;
  readonly key: string;
  readonly body: Buffer;
}

function received(channel: EncoderChannel): Seen[] {
  const ring = new RingConsumer(channel.memory.input);
  const seen: Seen[] = [];
  while (ring.next()) {
    const { view, bytes, offset, length } = ring;
    const flags = view.getUint16(offset + REQUEST.flags, true);
    const keyEnd = offset + REQUEST.headBytes + view.getUint16(offset + REQUEST.keyLength, true);
    const large = view.getUint32(offset + REQUEST.largeLength, true);
    seen.push({
      number: view.getUint32(offset + REQUEST.number, true),
      flags,
      arrivalUs: view.getFloat64(offset + REQUEST.arrivalUs, true),
      key: bytes.toString('latin1', offset + REQUEST.headBytes, keyEnd),
      body: Buffer.from(
        (flags & REQUEST_FLAG.large) === 0
          ? bytes.subarray(keyEnd, offset + length)
          : Buffer.from(channel.memory.largeBody, 0, large),
      ),
    });
  }
  return seen;
}

test('a request arrives as it was submitted, and not before it is published', () => {
  const request = fc.record({
    number: fc.nat(0xffffffff),
    arrivalUs: fc.nat(Number.MAX_SAFE_INTEGER),
    key: fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 40 }),
    body: fc.uint8Array({ maxLength: 300 }),
  });
  fc.assert(
    fc.property(fc.array(request, { minLength: 1, maxLength: 10 }), (requests) => {
      const channel = new EncoderChannel(0, 1, createChannel(1024, 1));
      for (const { body, ...head } of requests) assert.ok(channel.submit({ ...head, flags: REQUEST_FLAG.bulk }, body));
      assert.deepEqual(received(channel), []);
      channel.publish();
      assert.deepEqual(
        received(channel),
        requests.map(({ body, ...head }) => ({ ...head, flags: REQUEST_FLAG.bulk, body: Buffer.from(body) })),
      );
      const [first] = requests;
      assert.notEqual(channel.fingerprint(first?.number ?? 0), undefined);
    }),
    tries(30),
  );
});

test('one large body at a time goes through the slot, and a body that finds no room is refused, not cut', () => {
  const channel = new EncoderChannel(0, 1, createChannel(2 * INLINE_BODY_MAX_BYTES, 1));
  const large = Buffer.alloc(INLINE_BODY_MAX_BYTES + 1, 7);
  const head = { number: 5, flags: 0, arrivalUs: 1, key: '' };
  assert.ok(channel.submit(head, large));
  channel.publish();
  assert.ok(received(channel)[0]?.body.equals(large));
  assert.equal(channel.submit({ ...head, number: 6 }, large), false);
  Atomics.store(new Int32Array(channel.memory.slots), CHANNEL_SLOT.largeBodyTaken, 0);
  assert.ok(channel.submit({ ...head, number: 6 }, large));
  const inline = Buffer.alloc(INLINE_BODY_MAX_BYTES, 8);
  let taken = 0;
  while (channel.submit({ ...head, number: 100 + taken }, inline)) taken += 1;
  assert.ok(taken >= 2 && taken <= 4, `${taken} bodies of a MiB in a ring of four`);
  assert.ok(channel.backlogBytes >= taken * inline.length);
  channel.publish();
  assert.ok(
    received(channel)
      .slice(2)
      .every(({ body }) => body.equals(inline)),
  );
});
