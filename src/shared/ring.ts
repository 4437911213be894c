/**
 * A byte ring between two threads: one producer, one consumer, no locks.
 *
 * A record is an 8-byte head (u32 payload length, u32 unused) and its payload, padded to 8 bytes, and never wraps: where one
 * does not fit before the end of the memory, a head with WRAP sends the consumer to the start. So a payload can be
 * written and read in place. A record of up to half the capacity always fits into an empty ring, wherever it stands;
 * `maxPayload` is that bound.
 *
 * Positions are byte counts modulo 2^32, `tail` written by the producer, `head` by the consumer, each through Atomics: what
 * was written before `publish` is visible to who has seen the new tail, and the other way round for `release`.
 */

const HEAD_BYTES = 8;
const WRAP = 0xffffffff;
const CONTROL_BYTES = 128;
/** Int32 slots in the control block, a cache line apart. */
const TAIL = 0;
const HEAD = 16;

function align8(length: number): number {
  return (length + 7) & ~7;
}

/** Memory for a ring of `capacity` bytes (a power of two from 64 to 2^30). */
export function createRing(capacity: number): SharedArrayBuffer {
  if (capacity < 64 || capacity > 2 ** 30 || (capacity & (capacity - 1)) !== 0) {
    throw new RangeError(`ring capacity must be a power of two from 64 to 2^30, not ${capacity}`);
  }
  return new SharedArrayBuffer(CONTROL_BYTES + capacity);
}

/** The smallest ring capacity that takes a record with `payload` bytes whatever its position. */
export function capacityFor(payload: number): number {
  let capacity = 64;
  while (maxPayload(capacity) < payload) capacity *= 2;
  return capacity;
}

function maxPayload(capacity: number): number {
  return capacity / 2 - HEAD_BYTES;
}

class RingMemory {
  readonly capacity: number;
  /** The record area; `offset`s of producer and consumer point into it. */
  readonly bytes: Buffer;
  readonly view: DataView;
  protected readonly control: Int32Array;
  protected readonly mask: number;

  constructor(memory: SharedArrayBuffer) {
    this.capacity = memory.byteLength - CONTROL_BYTES;
    this.mask = this.capacity - 1;
    this.control = new Int32Array(memory, 0, CONTROL_BYTES / 4);
    this.bytes = Buffer.from(memory, CONTROL_BYTES, this.capacity);
    this.view = new DataView(memory, CONTROL_BYTES, this.capacity);
  }

  get maxPayload(): number {
    return maxPayload(this.capacity);
  }
}

export class RingProducer extends RingMemory {
  #tail: number;
  #published: number;
  #head: number;
  #reservedAt = 0;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.#tail = Atomics.load(this.control, TAIL) >>> 0;
    this.#published = this.#tail;
    this.#head = Atomics.load(this.control, HEAD) >>> 0;
  }

  /**
   * Room for one record with a payload of up to `length` bytes: where in `bytes` the payload goes, or -1 where there is no
   * room now. A reservation that is not committed is forgotten by the next one.
   */
  reserve(length: number): number {
    const need = HEAD_BYTES + align8(length);
    if (need > this.capacity / 2)
      throw new RangeError(`a record of ${length} bytes cannot pass a ring of ${this.capacity}`);
    const at = this.#tail & this.mask;
    const toEnd = this.capacity - at;
    const wraps = toEnd < need;
    const total = wraps ? toEnd + need : need;
    if (!this.#hasRoom(total)) return -1;
    if (wraps) {
      this.view.setUint32(at, WRAP, true);
      this.#reservedAt = (this.#tail + toEnd) >>> 0;
    } else {
      this.#reservedAt = this.#tail;
    }
    return (this.#reservedAt & this.mask) + HEAD_BYTES;
  }

  /** Ends the reserved record with the `length` bytes that were written. It is seen after the next `publish`. */
  commit(length: number): void {
    this.view.setUint32(this.#reservedAt & this.mask, length, true);
    this.#tail = (this.#reservedAt + HEAD_BYTES + align8(length)) >>> 0;
  }

  /** Shows all committed records to the consumer; false where there was nothing new. */
  publish(): boolean {
    if (this.#published === this.#tail) return false;
    this.#published = this.#tail;
    Atomics.store(this.control, TAIL, this.#tail | 0);
    return true;
  }

  /** Bytes in the ring that the consumer has not released, not yet published ones included. */
  get usedBytes(): number {
    this.#head = Atomics.load(this.control, HEAD) >>> 0;
    return (this.#tail - this.#head) >>> 0;
  }

  #hasRoom(bytes: number): boolean {
    if (this.capacity - ((this.#tail - this.#head) >>> 0) >= bytes) return true;
    this.#head = Atomics.load(this.control, HEAD) >>> 0;
    return this.capacity - ((this.#tail - this.#head) >>> 0) >= bytes;
  }
}

export class RingConsumer extends RingMemory {
  /** Where the payload of the record that `next` moved to starts in `bytes`. */
  offset = 0;
  /** Its length. */
  length = 0;
  #position: number;
  #tail: number;

  constructor(memory: SharedArrayBuffer) {
    super(memory);
    this.#position = Atomics.load(this.control, HEAD) >>> 0;
    this.#tail = Atomics.load(this.control, TAIL) >>> 0;
  }

  /** Moves to the next published record; false where there is none. The record's bytes stay until they are released. */
  next(): boolean {
    if (this.#position === this.#tail) {
      this.#tail = Atomics.load(this.control, TAIL) >>> 0;
      if (this.#position === this.#tail) return false;
    }
    let at = this.#position & this.mask;
    let length = this.view.getUint32(at, true);
    if (length === WRAP) {
      this.#position = (this.#position + this.capacity - at) >>> 0;
      at = 0;
      length = this.view.getUint32(0, true);
    }
    this.offset = at + HEAD_BYTES;
    this.length = length;
    this.#position = (this.#position + HEAD_BYTES + align8(length)) >>> 0;
    return true;
  }

  /** True where `next` would find a record. */
  get hasNext(): boolean {
    return this.#position !== Atomics.load(this.control, TAIL) >>> 0;
  }

  /** The position behind the current record, for a later `releaseTo` or `seek`. */
  get position(): number {
    return this.#position;
  }

  /** Goes back to a position that has not been released. */
  seek(position: number): void {
    this.#position = position;
  }

  /** Gives the memory of every record up to the current one back to the producer. */
  release(): void {
    this.releaseTo(this.#position);
  }

  releaseTo(position: number): void {
    Atomics.store(this.control, HEAD, position | 0);
  }
}
