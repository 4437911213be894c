import { RequestError } from '../../shared/errors.js';
import { BULK_ERRORS_MAX } from '../../shared/limits.js';
import type { Sink } from '../../shared/rowbinary.js';
import { BulkText } from './bulk-text.js';
import type { EventEncoder } from './event-encoder.js';
import type { IdList } from './id-list.js';
import { UNENDED } from './json-text.js';
import { EventText } from './plain-events.js';
import { EventFault } from './validate.js';

interface BulkError {
  readonly index: number;
  readonly error: string;
  readonly code: string;
  readonly details: readonly { readonly path: string; readonly message: string }[];
}

export interface BulkOptions {
  readonly ndjson: boolean;
  readonly minimal: boolean;
  readonly maxEvents: number;
  readonly arrivalUs: number;
}

/** `body` is valid until the next job with the same list of ids. */
interface BulkAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/**
 * Works off one bulk body, a slice of events at a time. No row leaves it before the whole body is read: a syntax error in a
 * document or one event too many refuses all of it.
 */
export class BulkJob {
  readonly #body: Buffer;
  readonly #options: BulkOptions;
  readonly #encoder: EventEncoder;
  readonly #sink: Sink;
  #text: BulkText;
  #plain: EventText;
  #accepted = 0;
  #rejected = 0;
  readonly #ids: IdList;
  #errors: BulkError[] = [];
  #answer: BulkAnswer | undefined;

  /** The rows go to `sink` from its start, which has room for the body and one row of any size; `ids` is the job's until it is done. */
  constructor(body: Buffer, options: BulkOptions, encoder: EventEncoder, sink: Sink, ids: IdList) {
    this.#body = body;
    this.#options = options;
    this.#encoder = encoder;
    this.#sink = sink;
    this.#ids = ids;
    sink.at = 0;
    ids.clear();
    this.#text = new BulkText(body, 0, body.length, options.ndjson);
    this.#plain = this.#plainText();
  }

  get accepted(): number {
    return this.#accepted;
  }

  get rejected(): number {
    return this.#rejected;
  }

  /** Takes up to `events` more events; true when the body is at its end. Throws a RequestError that refuses the whole body. */
  work(events: number): boolean {
    for (let left = events; left > 0;) {
      const taken = this.#takePlain(left);
      left -= taken;
      if (left === 0 || (taken > 0 && !this.#encoder.isStuck)) continue;
      left -= 1;
      switch (this.#text.next()) {
        case 'event':
          this.#takeReadably();
          break;
        case 'fault':
          throw refuse(this.#text.fault);
        case 'restart':
          this.#restart();
          break;
        case 'end':
          if (this.#accepted + this.#rejected === 0) throw refuse('the body holds no event');
          return true;
      }
    }
    return false;
  }

  /** The encoded rows; none where every event was refused. */
  get rows(): Uint8Array {
    return this.#sink.buffer.subarray(0, this.#sink.at);
  }

  /** The answer's status and body (api.md), when all is read; the same each time. */
  answer(): BulkAnswer {
    this.#answer ??= this.#makeAnswer();
    return this.#answer;
  }

  #makeAnswer(): BulkAnswer {
    const isTaken = this.#accepted > 0;
    const counts = `"accepted":${this.#accepted},"rejected":${this.#rejected}`;
    const errors = `"errors":${JSON.stringify(this.#errors)}}`;
    const head = `{${isTaken ? '' : this.#refusal()}${counts},`;
    const body = this.#options.minimal
      ? Buffer.from(head + errors)
      : this.#ids.between(`${head}"event_ids":[`, `],${errors}`);
    return { status: isTaken ? 202 : 400, body };
  }

  #refusal(): string {
    const error = JSON.stringify(`every event was refused, the first because ${this.#errors[0]?.error ?? ''}`);
    return `"error":${error},"code":"validation_error",`;
  }

  /** Takes plain events, as many as stand behind one another and up to `most`; the next one goes the readable way. */
  #takePlain(most: number): number {
    const start = this.#text.ahead;
    const room = Math.min(most, this.#options.maxEvents - this.#accepted - this.#rejected);
    if (start === UNENDED || room === 0) return 0;
    const taken = this.#encoder.encodePlain(this.#plain, start, room, this.#options.arrivalUs, this.#sink, this.#ids);
    if (taken > 0) this.#text.passTo(this.#encoder.behind);
    this.#accepted += taken;
    return taken;
  }

  #takeReadably(): void {
    const text = this.#text;
    const { maxEvents, arrivalUs, minimal } = this.#options;
    const index = this.#accepted + this.#rejected;
    if (text.end === UNENDED && !text.findEnd()) throw refuse(text.fault);
    if (index >= maxEvents) {
      throw new RequestError('payload_too_large', `the body holds more than ${maxEvents} events`);
    }
    const outcome = this.#encoder.encodeReadably(this.#body, text.start, text.end, arrivalUs, '', this.#sink);
    if (outcome instanceof EventFault) {
      this.#reject(index, outcome);
      return;
    }
    this.#accepted += 1;
    if (!minimal) this.#ids.add(outcome);
  }

  #reject(index: number, fault: EventFault): void {
    if (fault.notJson && !this.#text.linesStandAlone) {
      throw refuse(`the body is not valid JSON: event ${index}: ${fault.error}`);
    }
    this.#rejected += 1;
    if (!this.#options.minimal) this.#ids.addNull();
    if (this.#errors.length < BULK_ERRORS_MAX) {
      this.#errors.push({ index, error: fault.error, code: fault.code, details: fault.details });
    }
  }

  #restart(): void {
    this.#accepted = 0;
    this.#rejected = 0;
    this.#ids.clear();
    this.#errors = [];
    this.#sink.at = 0;
    this.#text = new BulkText(this.#body, 0, this.#body.length, true);
    this.#plain = this.#plainText();
  }

  #plainText(): EventText {
    return new EventText(this.#body, { lines: this.#text.linesStandAlone, withIds: !this.#options.minimal });
  }
}

function refuse(message: string): RequestError {
  return new RequestError('validation_error', message, { details: [{ path: '', message }] });
}
