import { ROW_MAX_BYTES } from '../../shared/limits.js';
import { Sink } from '../../shared/rowbinary.js';
import { encodeEvent } from './encode-event.js';
import { deriveEventId } from './event-id.js';
import { EventFault, EventValidator, type ValidationOptions } from './validate.js';

/** One event's text in, one row out, or the reason why not. */
export class EventEncoder {
  readonly #validator: EventValidator;
  /** The canonical form that ids are derived from is no longer than a row and its longer length prefixes. */
  readonly #scratch = new Sink(Buffer.alloc(2 * ROW_MAX_BYTES));

  constructor(options: ValidationOptions) {
    this.#validator = new EventValidator(options);
  }

  /**
   * Appends the row of the event between `start` and `end` to `sink`, which has ROW_MAX_BYTES of room, and returns the
   * event's id, 16 bytes in the order of its text. A refused event leaves the sink as it was.
   */
  encode(
    text: Buffer,
    start: number,
    end: number,
    arrivalUs: number,
    key: string,
    sink: Sink,
  ): Uint8Array | EventFault {
    const event = this.#validator.validate(text, start, end, arrivalUs / 1000, key);
    if (event instanceof EventFault) return event;
    const id = event.eventId ?? deriveEventId(event, this.#scratch);
    encodeEvent(sink, event, id, arrivalUs);
    return id;
  }
}
