/**
 * Counters in shared memory: what the threads count without a message, and what Prometheus and admission read.
 * Each slot has one writing thread, so a plain store is enough; a reader sees a value that is at most a moment old
 * (aligned 8-byte stores do not tear on the platforms that Node runs on).
 */

/** Every slot, by its writer. Names end with their unit. */
const SLOTS = [
  // log thread
  /** Bytes of segment files written by this process, plus what was there when it started. */
  'walBytesAppended',
  'walCommits',
  'walRowsSynced',
  /** Seconds in write and sync together. */
  'walCommitSeconds',
  'walFailures',
  'walRowsRefused',
  'walSegmentsSealed',
  // shipper thread
  /** Bytes of segment files removed because ClickHouse has them. */
  'walBytesFreed',
  'shippedRows',
  'shippedSegments',
  'shipFailures',
  /** SHIP_STATE. */
  'shipState',
  /** Moving average while shipping; 0 before the first segment. */
  'shipBytesPerSecond',
  'walTornBytes',
  'walDamagedBytes',
  'deadLetters',
  /** Bytes in the dead-letter store. */
  'deadLetterBytes',
  // roller thread
  /** Rows that were new to the rollup. */
  'rolledRows',
  'rollCommits',
  'rollFailures',
  /** Batches in ClickHouse that are not rolled. */
  'rollPendingSegments',
  /** Seconds of an event name that were read again from raw rows. */
  'rollLoadedSeconds',
  /** Raw rows that are left to roll of what was there before the rollup. */
  'rollBackfillRows',
  'rollEventNames',
  'rollUsers',
  /** Days that are answered from raw rows until they are rebuilt. */
  'rollOpenDays',
  'rollMemoryBytes',
  // main thread
  'acceptedEvents',
  'refusedEvents',
  'encoderDeaths',
] as const;

export type Counter = (typeof SLOTS)[number];

const INDEX = Object.freeze(Object.fromEntries(SLOTS.map((name, index) => [name, index]))) as Readonly<
  Record<Counter, number>
>;

export function createCounters(): SharedArrayBuffer {
  return new SharedArrayBuffer(SLOTS.length * 8);
}

export class Counters {
  readonly #slots: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.#slots = new Float64Array(memory);
  }

  add(name: Counter, value: number): void {
    const index = INDEX[name];
    this.#slots[index] = (this.#slots[index] ?? 0) + value;
  }

  set(name: Counter, value: number): void {
    this.#slots[INDEX[name]] = value;
  }

  get(name: Counter): number {
    return this.#slots[INDEX[name]] ?? 0;
  }
}

/** Values of `shipState`. */
export const SHIP_STATE = { ok: 0, retrying: 1, misconfigured: 2 } as const;
