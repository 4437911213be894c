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
    const isPlain = key === '' && scanner.scan(text, start, end, arrivalMs);
    if (!isPlain || scanner.timestampMs < retentionEdgeMs(this.#retentionDays, arrivalMs)) {
      return this.encodeReadably(text, start, end, arrivalUs, key, sink);
    }
    if (this.#forgotten?.has(text, scanner.userId.start, scanner.userId.end) === true) return USER_FORGOTTEN;
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
