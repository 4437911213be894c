import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import { createDoorbell, Doorbell, Sleeper } from '../../src/shared/doorbell.js';
import { RingConsumer, RingProducer } from '../../src/shared/ring.js';

/**
 * Two threads on one ring, or on two doorbells: each sleeps until the other wakes it. This file is both threads, and the
 * start of them. A sleep has no end of its own but for a deadline that only a thread that hangs for good can reach.
 */

export type PeerTask =
  | { readonly kind: 'ring'; readonly ring: SharedArrayBuffer; readonly records: number }
  | { readonly kind: 'ping'; readonly rounds: number };

export interface PeerReport {
  readonly seen: number;
  readonly bytes: number;
  readonly fault: string | undefined;
}

interface Side {
  readonly task: PeerTask;
  readonly role: 'first' | 'second';
  /** Doorbells of the first and of the second thread, and a word for ping to count in. */
  readonly bells: readonly [SharedArrayBuffer, SharedArrayBuffer];
  readonly word: SharedArrayBuffer;
}

const HANG_MS = 60_000;

/** Runs both threads to their end and tells what the second saw. */
export async function runPeer(task: PeerTask): Promise<PeerReport> {
  const shared = { task, bells: [createDoorbell(), createDoorbell()] as const, word: new SharedArrayBuffer(4) };
  const run = (role: Side['role']): Promise<PeerReport> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { ...shared, role } satisfies Side });
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  const [first, second] = await Promise.all([run('first'), run('second')]);
  return { ...second, fault: first.fault ?? second.fault };
}

/** Sleeps until `condition` holds; false where nothing has woken us for so long that nothing will. */
function sleepUntil(sleeper: Sleeper, condition: () => boolean): boolean {
  const end = performance.now() + HANG_MS;
  while (!condition()) {
    sleeper.prepare();
    if (condition()) {
      sleeper.stayAwake();
      return true;
    }
    sleeper.sleep(HANG_MS);
    if (performance.now() > end) return condition();
  }
  return true;
}

/** Length and bytes of a record follow from its number: both sides know them. */
function fillRecord(bytes: Buffer, at: number, number: number, length: number): void {
  bytes.writeUInt32LE(number, at);
  let state = Math.imul(number, 0x9e3779b1) >>> 0;
  for (let i = at + 4; i < at + length - 4; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(at, at + length - 4)), at + length - 4);
}

function lengthOf(number: number, max: number): number {
  const spread = Math.imul(number ^ (number >>> 7), 0x45d9f3b) >>> 0;
  // Mostly short ones, the longest that the ring takes now and then.
  const bound = spread % 16 === 0 ? max : Math.min(max, 200);
  return 8 + ((spread >>> 4) % (bound - 7));
}

function produce(ring: RingProducer, records: number, sleeper: Sleeper, other: Doorbell): string | undefined {
  for (let number = 0; number < records; number += 1) {
    const length = lengthOf(number, ring.maxPayload);
    let at = ring.reserve(length);
    if (at === -1) {
      if (ring.publish()) other.ring();
      const hasRoom = sleepUntil(sleeper, () => (at = ring.reserve(length)) !== -1);
      if (!hasRoom) return `the producer hangs at record ${number}`;
    }
    fillRecord(ring.bytes, at, number, length);
    ring.commit(length);
    if (number % 7 === 0 && ring.publish()) other.ring();
  }
  if (ring.publish()) other.ring();
  return undefined;
}

function consume(ring: RingConsumer, records: number, sleeper: Sleeper, other: Doorbell): PeerReport {
  let seen = 0;
  let bytes = 0;
  while (seen < records) {
    if (!sleepUntil(sleeper, () => ring.hasNext)) return { seen, bytes, fault: `the consumer hangs at record ${seen}` };
    while (ring.next()) {
      const record = ring.bytes.subarray(ring.offset, ring.offset + ring.length);
      const isWhole = crc32(record.subarray(0, -4)) === record.readUInt32LE(record.length - 4);
      if (!isWhole || record.readUInt32LE(0) !== seen) {
        return {
          seen,
          bytes,
          fault: `record ${seen} came as ${record.readUInt32LE(0)}, ${isWhole ? 'whole' : 'torn'}`,
        };
      }
      seen += 1;
      bytes += record.length;
    }
    ring.release();
    other.ring();
  }
  return { seen, bytes, fault: undefined };
}

/** The word counts up: the first thread makes it odd, the second even. */
function ping(word: Int32Array, rounds: number, parity: number, sleeper: Sleeper, other: Doorbell): PeerReport {
  for (let round = 0; round < rounds; round += 1) {
    const mine = 2 * round + parity;
    if (!sleepUntil(sleeper, () => Atomics.load(word, 0) === mine)) {
      return { seen: round, bytes: 0, fault: `a wake-up was missed in round ${round}` };
    }
    Atomics.store(word, 0, mine + 1);
    other.ring();
  }
  return { seen: rounds, bytes: 0, fault: undefined };
}

function runSide({ task, role, bells, word }: Side): PeerReport {
  const isFirst = role === 'first';
  const sleeper = new Sleeper(bells[isFirst ? 0 : 1]);
  const other = new Doorbell(bells[isFirst ? 1 : 0]);
  if (task.kind === 'ping') return ping(new Int32Array(word), task.rounds, isFirst ? 0 : 1, sleeper, other);
  if (!isFirst) return consume(new RingConsumer(task.ring), task.records, sleeper, other);
  return { seen: 0, bytes: 0, fault: produce(new RingProducer(task.ring), task.records, sleeper, other) };
}

if (!isMainThread && parentPort !== null) parentPort.postMessage(runSide(workerData as Side));
