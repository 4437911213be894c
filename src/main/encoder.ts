import { crc32 } from 'node:zlib';
import {
  CHANNEL_SLOT,
  type ChannelMemory,
  FAILURE_CODES,
  NO_REQUEST,
  REQUEST,
  REQUEST_FLAG,
  RESULT,
} from '../shared/channel.js';
import { Doorbell } from '../shared/doorbell.js';
import { ERROR_CODES, type ErrorCode } from '../shared/errors.js';
import { BULK_BODIES_MAX_BYTES, INLINE_BODY_MAX_BYTES } from '../shared/limits.js';
import { RingConsumer, RingProducer } from '../shared/ring.js';

/**
 * Main's end of one encoder generation: requests in, answers out.
 *
 * Answers come in the order of their rows. An answer that waits for none (a 400) is passed on at once; one that waits stays
 * in the ring until the log thread's counter has passed it. So two cursors walk the ring, one after the other.
 */

/** What an encoder is to do, without the body. */
export interface RequestHead {
  readonly number: number;
  /** REQUEST_FLAG and the encoding. */
  readonly flags: number;
  readonly arrivalUs: number;
  /** `Idempotency-Key`, latin1; empty where there is none. */
  readonly key: string;
}

type FailureCode = (typeof FAILURE_CODES)[number];

export interface AnswerSink {
  /** `code` is that of a refusal, and means nothing of a 202. */
  answer(
    number: number,
    status: number,
    body: Uint8Array,
    accepted: number,
    refused: number,
    code: ErrorCode | undefined,
  ): void;
  /** The rows that this answer waited for are not in the log and never will be. */
  failed(number: number, code: FailureCode): void;
}

export class EncoderChannel {
  readonly index: number;
  readonly id: number;
  readonly memory: ChannelMemory;
  /** The thread has ended; what it published is still being settled. */
  dead = false;
  readonly #slots: Int32Array;
  readonly #input: RingProducer;
  readonly #largeBody: Buffer;
  readonly #arrived: RingConsumer;
  readonly #waiting: RingConsumer;
  readonly #bell: Doorbell;
  #failuresSeen = 0;
  /** Of bulk bodies that were submitted and have no answer. */
  #bulkBytes = 0;

  constructor(index: number, id: number, memory: ChannelMemory) {
    this.index = index;
    this.id = id;
    this.memory = memory;
    this.#slots = new Int32Array(memory.slots);
    this.#input = new RingProducer(memory.input);
    this.#largeBody = Buffer.from(memory.largeBody);
    this.#arrived = new RingConsumer(memory.results);
    this.#waiting = new RingConsumer(memory.results);
    this.#bell = new Doorbell(memory.encoderBell);
  }

  /** Bytes of requests that the encoder has not finished. */
  get backlogBytes(): number {
    return this.#input.usedBytes;
  }

  /**
   * Whether a bulk body of this size may go to the encoder now: it has one at least, and no more than leave room in the ring
   * for the single events that go ahead of them. What may not waits on main.
   */
  takesBulk(bytes: number): boolean {
    return this.#bulkBytes === 0 || this.#bulkBytes + bytes <= BULK_BODIES_MAX_BYTES;
  }

  /** A bulk body that was submitted has its answer. */
  bulkDone(bytes: number): void {
    this.#bulkBytes -= bytes;
  }

  get takesLargeBody(): boolean {
    return Atomics.load(this.#slots, CHANNEL_SLOT.largeBodyTaken) === 0;
  }

  /** Copies a request to the encoder, which sees it after `publish`; false where it has no room now. */
  submit(head: RequestHead, body: Uint8Array): boolean {
    const large = body.length > INLINE_BODY_MAX_BYTES;
    if (large && !this.takesLargeBody) return false;
    const length = REQUEST.headBytes + head.key.length + (large ? 0 : body.length);
    const at = this.#input.reserve(length);
    if (at === -1) return false;
    const { view, bytes } = this.#input;
    view.setUint32(at + REQUEST.number, head.number, true);
    view.setUint16(at + REQUEST.flags, head.flags | (large ? REQUEST_FLAG.large : 0), true);
    view.setUint16(at + REQUEST.keyLength, head.key.length, true);
    view.setFloat64(at + REQUEST.arrivalUs, head.arrivalUs, true);
    view.setUint32(at + REQUEST.largeLength, large ? body.length : 0, true);
    if (head.key !== '') bytes.write(head.key, at + REQUEST.headBytes, 'latin1');
    if (large) {
      this.#largeBody.set(body);
      Atomics.store(this.#slots, CHANNEL_SLOT.largeBodyTaken, 1);
    } else {
      bytes.set(body, at + REQUEST.headBytes + head.key.length);
    }
    this.#input.commit(length);
    if ((head.flags & REQUEST_FLAG.bulk) !== 0) this.#bulkBytes += body.length;
    return true;
  }

  publish(): void {
    if (this.#input.publish()) this.#bell.ring();
  }

  /** Asks the thread to finish what it has and to return. */
  stop(): void {
    Atomics.store(this.#slots, CHANNEL_SLOT.stop, 1);
    this.#bell.ring();
  }

  /** The log thread has taken all that a dead encoder published: no further answer becomes due. */
  get closed(): boolean {
    return Atomics.load(this.#slots, CHANNEL_SLOT.closed) === 1;
  }

  /** The request that the encoder was at work on; undefined where none. */
  get currentRequest(): number | undefined {
    const number = this.#slots[CHANNEL_SLOT.currentRequest] ?? NO_REQUEST;
    return number === NO_REQUEST ? undefined : number;
  }

  /** Passes on every answer that is due, and says whether a failure of the log was among them. */
  collect(sink: AnswerSink): boolean {
    const from = this.#waiting.position;
    // The counter is read before the answers: an answer whose rows it covers was published before them.
    const durable = Atomics.load(this.#slots, CHANNEL_SLOT.durableRows);
    const failure = this.#newFailure();
    this.#passOnArrived(sink);
    this.#passOnDue(sink, failure?.from ?? durable);
    if (failure !== undefined) this.#passOnDue(sink, failure.through, failure.code);
    if (this.#waiting.position !== from) {
      this.#waiting.release();
      this.#bell.ring();
    }
    if (failure === undefined) return false;
    Atomics.store(this.#slots, CHANNEL_SLOT.failureSeen, this.#failuresSeen);
    return true;
  }

  #passOnArrived(sink: AnswerSink): void {
    const ring = this.#arrived;
    while (ring.next()) {
      if (ring.view.getUint16(ring.offset + RESULT.waits, true) === 0) pass(ring, sink);
    }
  }

  /** Answers whose rows come up to `through`: passed on, or failed where there is a code. */
  #passOnDue(sink: AnswerSink, through: number, code?: FailureCode): void {
    const ring = this.#waiting;
    const end = this.#arrived.position;
    while (ring.position !== end) {
      const before = ring.position;
      if (!ring.next()) return;
      if (ring.view.getUint16(ring.offset + RESULT.waits, true) === 0) continue;
      if (((through - ring.view.getUint32(ring.offset + RESULT.rowsThrough, true)) | 0) < 0) {
        ring.seek(before);
        return;
      }
      if (code === undefined) pass(ring, sink);
      else sink.failed(ring.view.getUint32(ring.offset + RESULT.number, true), code);
    }
  }

  /**
   * Rows that the log thread could not make durable and that nobody has been told of yet. The rows of an answer are in one
   * commit, and every answer that waits for these has been published before they were: all of them are found now.
   */
  #newFailure(): { from: number; through: number; code: FailureCode } | undefined {
    const failures = Atomics.load(this.#slots, CHANNEL_SLOT.failures);
    if (failures === this.#failuresSeen) return undefined;
    this.#failuresSeen = failures;
    return {
      from: Atomics.load(this.#slots, CHANNEL_SLOT.failedFrom),
      through: Atomics.load(this.#slots, CHANNEL_SLOT.failedThrough),
      code: FAILURE_CODES[Atomics.load(this.#slots, CHANNEL_SLOT.failureCode)] ?? 'log_failed',
    };
  }

  /** A number that tells the body of a request in the input ring from others; undefined where it is not there. */
  fingerprint(number: number): string | undefined {
    const ring = new RingConsumer(this.memory.input);
    while (ring.next()) {
      const { view, offset, length, bytes } = ring;
      if (view.getUint32(offset + REQUEST.number, true) !== number) continue;
      const keyLength = view.getUint16(offset + REQUEST.keyLength, true);
      const large = view.getUint32(offset + REQUEST.largeLength, true);
      const body =
        large > 0
          ? this.#largeBody.subarray(0, large)
          : bytes.subarray(offset + REQUEST.headBytes + keyLength, offset + length);
      return bodyFingerprint(body);
    }
    return undefined;
  }
}

export function bodyFingerprint(body: Uint8Array): string {
  return `${body.length}:${crc32(body)}`;
}

function pass(ring: RingConsumer, sink: AnswerSink): void {
  const { view, offset, length, bytes } = ring;
  sink.answer(
    view.getUint32(offset + RESULT.number, true),
    view.getUint16(offset + RESULT.status, true),
    bytes.subarray(offset + RESULT.headBytes, offset + length),
    view.getUint32(offset + RESULT.accepted, true),
    view.getUint32(offset + RESULT.refused, true),
    ERROR_CODES[view.getUint32(offset + RESULT.code, true)],
  );
}
