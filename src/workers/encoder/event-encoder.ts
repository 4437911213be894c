import type { ForgottenUsers } from '../../shared/forgotten-users.js';
import { ROW_MAX_BYTES } from '../../shared/limits.js';
import { retentionEdgeMs } from '../../shared/retention.js';
import { Sink } from '../../shared/rowbinary.js';
import { encodeEvent, encodeScanned } from './encode-event.js';
import { deriveEventId, deriveScannedId } from './event-id.js';
import { EventScanner } from './scan-event.js';
import { EventFault, EventValidator, type ValidationOptions } from './validate.js';

const USER_FORGOTTEN = EventFault.at('/user_id', 'is of a user who is to be forgotten', 'user_forgotten');

/**
 * One event's text in, one row out, or the reason why not. Plain events are scanned in one pass; all others, and all that
 * may be wrong, go the readable way, which is the definition that the scanner is held to.
 */
export class EventEncoder {
  readonly #scanner: EventScanner;
  readonly #validator: EventValidator;
  readonly #retentionDays: number | undefined;
  readonly #forgotten: ForgottenUsers | undefined;
  /** The canonical form that ids are derived from is no longer than a row and its longer length prefixes. */
  readonly #scratch = new Sink(Buffer.alloc(2 * ROW_MAX_BYTES));

  constructor(options: ValidationOptions, forgotten?: ForgottenUsers) {
    this.#scanner = new EventScanner(options);
    this.#validator = new EventValidator(options);
    this.#retentionDays = options.retentionDays;
    this.#forgotten = forgotten;
  }

  /**
   * Appends the row of the event between `start` and `end` to `sink`, which has ROW_MAX_BYTES of room, and returns the
   * event's id, 16 bytes in the order of its text, valid until the next call. A refused event leaves the sink as it was.
   */
  encode(
    text: Buffer,
    start: number,
    end: number,
    arrivalUs: number,
    key: string,
    sink: Sink,
  ): Uint8Array | EventFault {
    const scanner = this.#scanner;
    const arrivalMs = arrivalUs / 1000;
    if (key !== '' || !scanner.scan(text, start, end, arrivalMs) || this.#isTooOld(arrivalMs)) {
      return this.encodeReadably(text, start, end, arrivalUs, key, sink);
    }
    return this.#isForgotten(text) ? USER_FORGOTTEN : this.#encodeScanned(arrivalUs, sink);
  }

  /**
   * `encode` for an event at `start` whose end is not known, before `limit`: where it is a plain one that is taken, `behind` is
   * where it ends. Undefined where it is not: its end must be found first.
   */
  encodeAhead(text: Buffer, start: number, limit: number, arrivalUs: number, sink: Sink): Uint8Array | undefined {
    const arrivalMs = arrivalUs / 1000;
    if (!this.#scanner.scanAhead(text, start, limit, arrivalMs)) return undefined;
    return this.#isTooOld(arrivalMs) || this.#isForgotten(text) ? undefined : this.#encodeScanned(arrivalUs, sink);
  }

  /** The position behind the event that `encodeAhead` took. */
  get behind(): number {
    return this.#scanner.behind;
  }

  /** Of the event that was scanned. */
  #isTooOld(arrivalMs: number): boolean {
    return this.#scanner.timestampMs < retentionEdgeMs(this.#retentionDays, arrivalMs);
  }

  /** Of the event that was scanned in `text`. */
  #isForgotten(text: Buffer): boolean {
    const { start, end } = this.#scanner.userId;
    return this.#forgotten?.has(text, start, end) === true;
  }

  #encodeScanned(arrivalUs: number, sink: Sink): Uint8Array {
    const scanner = this.#scanner;
    const id = scanner.hasEventId ? scanner.eventId : deriveScannedId(scanner);
    encodeScanned(sink, scanner, id, arrivalUs);
    return id;
  }

  /** `encode` without the scanner. */
  encodeReadably(
    text: Buffer,
    start: number,
    end: number,
    arrivalUs: number,
    key: string,
    sink: Sink,
  ): Uint8Array | EventFault {
    const event = this.#validator.validate(text, start, end, arrivalUs / 1000, key);
    if (event instanceof EventFault) return event;
    if (this.#forgotten !== undefined && this.#forgotten.count > 0) {
      const userId = Buffer.from(event.userId);
      if (this.#forgotten.has(userId, 0, userId.length)) return USER_FORGOTTEN;
    }
    const id = event.eventId ?? deriveEventId(event, this.#scratch);
    encodeEvent(sink, event, id, arrivalUs);
    return id;
  }
}
