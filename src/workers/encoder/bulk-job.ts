import { RequestError } from '../../shared/errors.js';
import { BULK_ERRORS_MAX, ROW_MAX_BYTES, ROWS_RECORD_BYTES } from '../../shared/limits.js';
import { Sink } from '../../shared/rowbinary.js';
import { BulkText } from './bulk-text.js';
import type { EventEncoder } from './event-encoder.js';
import { formatUuid } from './event-id.js';
import { EventFault } from './validate.js';

/** A stretch of encoded rows that fits into one record of the rows ring. */
interface Chunk {
  readonly start: number;
  readonly end: number;
  readonly rows: number;
}

interface BulkError {
  readonly index: number;
  readonly error: string;
  readonly code: string;
  readonly details: readonly { readonly path: string; readonly message: string }[];
}

/** Room for one chunk, less the head of its record. */
const CHUNK_MAX_BYTES = ROWS_RECORD_BYTES - 64;

/**
 * Rows of the bulk body that is being worked off, until all of it is known to be acceptable: one memory per encoder, because
 * an encoder works off one bulk body at a time.
 */
export class BulkStage {
  readonly sink = new Sink(Buffer.allocUnsafe(1024 * 1024));

  ensure(bytes: number): void {
    const { buffer, at } = this.sink;
    if (at + bytes <= buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(at + bytes, buffer.length * 2));
    buffer.copy(larger, 0, 0, at);
    const grown = new Sink(larger);
    this.sink.buffer = grown.buffer;
    this.sink.view = grown.view;
  }

  /** Gives back what a large body took. */
  reset(): void {
    this.sink.at = 0;
    if (this.sink.buffer.length <= 4 * 1024 * 1024) return;
    const fresh = new Sink(Buffer.allocUnsafe(1024 * 1024));
    this.sink.buffer = fresh.buffer;
    this.sink.view = fresh.view;
  }
}

export interface BulkOptions {
  readonly ndjson: boolean;
  readonly minimal: boolean;
  readonly maxEvents: number;
  readonly arrivalUs: number;
}

/**
 * Works off one bulk body, a slice of events at a time. No row leaves it before the whole body is read: a syntax error in a
 * document or one event too many refuses all of it.
 */
export class BulkJob {
  readonly #body: Buffer;
  readonly #options: BulkOptions;
  readonly #encoder: EventEncoder;
  readonly #stage: BulkStage;
  #text: BulkText;
  #accepted = 0;
  #rejected = 0;
  #ids: string[] = [];
  #errors: BulkError[] = [];
  #chunks: Chunk[] = [];
  #chunkStart = 0;
  #chunkRows = 0;

  constructor(body: Buffer, options: BulkOptions, encoder: EventEncoder, stage: BulkStage) {
    this.#body = body;
    this.#options = options;
    this.#encoder = encoder;
    this.#stage = stage;
    stage.reset();
    this.#text = new BulkText(body, 0, body.length, options.ndjson);
  }

  get accepted(): number {
    return this.#accepted;
  }

  get rejected(): number {
    return this.#rejected;
  }

  /** Takes up to `events` more events; true when the body is at its end. Throws a RequestError that refuses the whole body. */
  work(events: number): boolean {
    for (let i = 0; i < events; i += 1) {
      switch (this.#text.next()) {
        case 'event':
          this.#take();
          break;
        case 'fault':
          throw refuse(this.#text.fault);
        case 'restart':
          this.#restart();
          break;
        case 'end':
          this.#endChunk();
          if (this.#accepted + this.#rejected === 0) throw refuse('the body holds no event');
          return true;
      }
    }
    return false;
  }

  /** The rows in pieces for the rows ring, in order. Empty where every event was refused. */
  chunks(): readonly Chunk[] {
    return this.#chunks;
  }

  bytesOf(chunk: Chunk): Uint8Array {
    return this.#stage.sink.buffer.subarray(chunk.start, chunk.end);
  }

  /** The answer's status and body (api.md). */
  answer(): { status: number; body: string } {
    const ids = this.#options.minimal ? '' : `"event_ids":[${this.#ids.join(',')}],`;
    const counts = `"accepted":${this.#accepted},"rejected":${this.#rejected}`;
    const rest = `${counts},${ids}"errors":${JSON.stringify(this.#errors)}}`;
    if (this.#accepted > 0) return { status: 202, body: `{${rest}` };
    const error = JSON.stringify(`every event was refused, the first because ${this.#errors[0]?.error ?? ''}`);
    return { status: 400, body: `{"error":${error},"code":"validation_error",${rest}` };
  }

  #take(): void {
    const index = this.#accepted + this.#rejected;
    if (index >= this.#options.maxEvents) {
      throw new RequestError('payload_too_large', `the body holds more than ${this.#options.maxEvents} events`);
    }
    const { sink } = this.#stage;
    this.#stage.ensure(ROW_MAX_BYTES);
    if (sink.at + ROW_MAX_BYTES - this.#chunkStart > CHUNK_MAX_BYTES) this.#endChunk();
    const { start, end } = this.#text;
    const outcome = this.#encoder.encode(this.#body, start, end, this.#options.arrivalUs, '', sink);
    if (!(outcome instanceof EventFault)) {
      this.#accepted += 1;
      this.#chunkRows += 1;
      if (!this.#options.minimal) this.#ids.push(`"${formatUuid(outcome)}"`);
      return;
    }
    if (outcome.notJson && !this.#text.linesStandAlone) {
      throw refuse(`the body is not valid JSON: event ${index}: ${outcome.error}`);
    }
    this.#rejected += 1;
    if (!this.#options.minimal) this.#ids.push('null');
    if (this.#errors.length < BULK_ERRORS_MAX) {
      this.#errors.push({ index, error: outcome.error, code: outcome.code, details: outcome.details });
    }
  }

  #endChunk(): void {
    const { at } = this.#stage.sink;
    if (this.#chunkRows > 0) this.#chunks.push({ start: this.#chunkStart, end: at, rows: this.#chunkRows });
    this.#chunkStart = at;
    this.#chunkRows = 0;
  }

  #restart(): void {
    this.#accepted = 0;
    this.#rejected = 0;
    this.#ids = [];
    this.#errors = [];
    this.#chunks = [];
    this.#chunkStart = 0;
    this.#chunkRows = 0;
    this.#stage.reset();
    this.#text = new BulkText(this.#body, 0, this.#body.length, true);
  }
}

function refuse(message: string): RequestError {
  return new RequestError('validation_error', message, { details: [{ path: '', message }] });
}
