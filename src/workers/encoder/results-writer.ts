import { RESULT } from '../../shared/channel.js';
import type { Doorbell } from '../../shared/doorbell.js';
import { ERROR_CODES, type ErrorCode } from '../../shared/errors.js';
import type { RingProducer } from '../../shared/ring.js';

/** What main needs to know of an answer beside its body. */
export interface ResultHead {
  readonly number: number;
  readonly status: number;
  /** Rows of the channel that must be synced first; undefined where the answer waits for none. */
  readonly rowsThrough: number | undefined;
  readonly accepted: number;
  readonly refused: number;
  /** Of a refusal. */
  readonly code?: ErrorCode;
}

/** Answers into the ring to main. Those that wait for no rows wake main; the others the log thread does, after the sync. */
export class ResultsWriter {
  readonly #ring: RingProducer;
  readonly #mainBell: Doorbell;
  #immediate = false;

  constructor(ring: RingProducer, mainBell: Doorbell) {
    this.#ring = ring;
    this.#mainBell = mainBell;
  }

  get maxBody(): number {
    return this.#ring.maxPayload - RESULT.headBytes;
  }

  /** Whether a body of `bytes` fits now. Holds until the next `write`. */
  hasRoom(bytes: number): boolean {
    return this.#ring.reserve(RESULT.headBytes + bytes) !== -1;
  }

  /** Writes an answer for which `hasRoom` has just been true. */
  write(head: ResultHead, body: string | Uint8Array): void {
    const { bytes, view } = this.#ring;
    const length = Buffer.byteLength(body);
    const at = this.#ring.reserve(RESULT.headBytes + length);
    if (at === -1) throw new Error('the result ring has no room for an answer that was promised room');
    const waits = head.rowsThrough !== undefined;
    view.setUint32(at + RESULT.number, head.number, true);
    view.setUint16(at + RESULT.status, head.status, true);
    view.setUint16(at + RESULT.waits, waits ? 1 : 0, true);
    view.setUint32(at + RESULT.rowsThrough, head.rowsThrough ?? 0, true);
    view.setUint32(at + RESULT.accepted, head.accepted, true);
    view.setUint32(at + RESULT.refused, head.refused, true);
    view.setUint32(at + RESULT.code, head.code === undefined ? 0 : ERROR_CODES.indexOf(head.code), true);
    if (typeof body === 'string') bytes.write(body, at + RESULT.headBytes, length, 'utf8');
    else bytes.set(body, at + RESULT.headBytes);
    this.#ring.commit(RESULT.headBytes + length);
    if (!waits) this.#immediate = true;
  }

  publish(): void {
    this.#ring.publish();
    if (!this.#immediate) return;
    this.#immediate = false;
    this.#mainBell.ring();
  }
}
