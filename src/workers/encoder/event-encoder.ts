import type { ForgottenUsers } from '../../shared/forgotten-users.js';
import { ROW_MAX_BYTES } from '../../shared/limits.js';
import { retentionEdgeMs } from '../../shared/retention.js';
import { Sink } from '../../shared/rowbinary.js';
import { encodeEvent } from './encode-event.js';
import { deriveEventId } from './event-id.js';
import type { IdList } from './id-list.js';
import { type EventText, PlainEvents } from './plain-events.js';
import { EventFault, EventValidator, type ValidationOptions } from './validate.js';

const USER_FORGOTTEN = EventFault.at('/user_id', 'is of a user who is to be forgotten', 'user_forgotten');

/**
 * Events of bulk bodies that are encoded before their users are looked for, while there are forgotten ones: what stands behind an
 * event of one of them was encoded in vain.
 */
const MOST_BEFORE_LOOKING = 8;

/**
 * Text of events in, rows out, or the reason why not. Plain events are encoded in one pass; all others, and all that may be
 * wrong, go the readable way, which is the definition that the one-pass encoder is held to.
 */
export class EventEncoder {
  readonly #plain: PlainEvents;
  readonly #validator: EventValidator;
  readonly #futureToleranceMs: number;
  readonly #retentionDays: number | undefined;
  readonly #forgotten: ForgottenUsers | undefined;
  /** The canonical form that ids are derived from is no longer than a row and its longer length prefixes. */
  readonly #scratch = new Sink(Buffer.alloc(2 * ROW_MAX_BYTES));

  constructor(options: ValidationOptions, forgotten?: ForgottenUsers) {
    this.#plain = new PlainEvents(options.channels);
    this.#validator = new EventValidator(options);
    this.#futureToleranceMs = options.futureToleranceS * 1000;
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
    if (key === '') {
      const plain = this.#plain;
      this.#setTime(arrivalUs);
      const length = plain.encodeOne(text, start, end, sink);
      if (length > 0) {
        if (this.#isForgotten(0)) return USER_FORGOTTEN;
        plain.moveRow(sink, length);
        return plain.id;
      }
    }
    return this.encodeReadably(text, start, end, arrivalUs, key, sink);
  }

  /**
   * Appends the rows of the plain events that stand behind one another from `start` on, where one begins, to `sink`, and their
   * ids, where they are wanted, to `ids`. Returns how many it took, at most `most` and perhaps fewer than there are: `behind`
   * is then where the last of them ends, and `isStuck` tells whether the next one must go the readable way. The first must where
   * it took none.
   */
  encodePlain(from: EventText, start: number, most: number, arrivalUs: number, sink: Sink, ids: IdList): number {
    const plain = this.#plain;
    this.#setTime(arrivalUs);
    const looks = this.#forgotten !== undefined && this.#forgotten.count > 0;
    let count = plain.encodeMany(from, start, looks ? Math.min(most, MOST_BEFORE_LOOKING) : most, sink);
    if (looks) {
      let kept = 0;
      while (kept < count && !this.#isForgotten(kept)) kept += 1;
      if (kept < count) plain.stopAt(kept);
      count = kept;
    }
    if (count === 0) return 0;
    const { rows } = plain;
    sink.buffer.set(rows, sink.at);
    sink.at += rows.length;
    if (from.withIds) ids.addTexts(plain.idTexts);
    return count;
  }

  /** The position behind the last event that `encodePlain` took. */
  get behind(): number {
    return this.#plain.behind;
  }

  get isStuck(): boolean {
    return this.#plain.isStuck;
  }

  #setTime(arrivalUs: number): void {
    const arrivalMs = arrivalUs / 1000;
    this.#plain.setTime(
      arrivalUs,
      retentionEdgeMs(this.#retentionDays, arrivalMs),
      arrivalMs + this.#futureToleranceMs,
    );
  }

  /** Whether one of the events that were just encoded is of a forgotten user. */
  #isForgotten(event: number): boolean {
    const plain = this.#plain;
    return this.#forgotten?.has(plain.memory, plain.userStart(event), plain.userEnd(event)) === true;
  }

  /** `encode` without the one-pass encoder. */
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
