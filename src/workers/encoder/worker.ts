import type { MessagePort } from 'node:worker_threads';
import {
  CHANNEL_SLOT,
  type ChannelMemory,
  ENCODING_SHIFT,
  ENCODINGS,
  NO_REQUEST,
  REQUEST,
  REQUEST_FLAG,
} from '../../shared/channel.js';
import type { LogLevel } from '../../shared/config.js';
import { Doorbell, Sleeper } from '../../shared/doorbell.js';
import { type ErrorCode, RequestError, statusOf } from '../../shared/errors.js';
import { ForgottenUsers } from '../../shared/forgotten-users.js';
import { createLogger, type Logger } from '../../shared/log.js';
import { RingConsumer, RingProducer } from '../../shared/ring.js';
import { BulkJob } from './bulk-job.js';
import { BulkStages } from './bulk-stages.js';
import { decodeBody } from './decode-body.js';
import { EventEncoder } from './event-encoder.js';
import { writeUuidText } from './event-id.js';
import { IdList } from './id-list.js';
import { ResultsWriter } from './results-writer.js';
import { RowsWriter } from './rows-writer.js';
import { EventFault } from './validate.js';

/**
 * An encoder: a Piscina task that lives as long as its thread. It takes requests from its input ring, validates and
 * encodes, and passes rows to the log thread and answers to main. It has no I/O.
 *
 * What it publishes, it publishes in this order: results, then the rows that they wait for. When the log thread wakes main
 * after a sync, main therefore finds every result that the sync made due; nobody else would wake it for them.
 *
 * Single events go ahead of a bulk body that is being worked off: the body gets a slice whenever the singles that were
 * there are done. Invariant 6, within one encoder.
 */

export interface EncoderTask {
  readonly channel: ChannelMemory;
  readonly mainBell: SharedArrayBuffer;
  readonly logBell: SharedArrayBuffer;
  readonly wakeMain: MessagePort;
  readonly logLevel: LogLevel;
  readonly channels: readonly string[];
  readonly futureToleranceS: number;
  readonly retentionDays: number | undefined;
  /** Memory of ForgottenUsers. */
  readonly forgottenUsers: SharedArrayBuffer;
  readonly bodyMaxBytes: number;
  readonly bulkMaxEvents: number;
}

/** Requests that are worked off before what they gave is published. */
const BATCH_REQUESTS = 128;
/** Events of a bulk body between two looks at the input: a tenth of a millisecond, one to two where none of them is plain. */
const SLICE_EVENTS = 256;
/** Longest sleep: a guard, not a clock. */
const SLEEP_MS = 10_000;
/** Answers to single events are shorter. */
const SINGLE_ANSWER_MAX_BYTES = 32 * 1024;
/** The answer to a single event that was taken; its id is written into it. */
const SINGLE_ACCEPTED = Buffer.from('{"status":"accepted","event_id":"00000000-0000-0000-0000-000000000000"}');
const SINGLE_ID_AT = SINGLE_ACCEPTED.indexOf('0');

/** A bulk request that waits for its turn or is being worked off. */
interface QueuedBulk {
  readonly number: number;
  readonly flags: number;
  readonly arrivalUs: number;
  readonly body: Buffer;
  /** Input position up to which the ring may be released while this body stands in it. */
  readonly heldFrom: number;
}

class Encoder {
  readonly #task: EncoderTask;
  readonly #log: Logger;
  readonly #slots: Int32Array;
  readonly #sleeper: Sleeper;
  readonly #input: RingConsumer;
  readonly #results: ResultsWriter;
  readonly #rows: RowsWriter;
  readonly #events: EventEncoder;
  readonly #stages: BulkStages;
  readonly #ids = new IdList();
  readonly #bulks: QueuedBulk[] = [];
  #job: BulkJob | undefined;
  /** All events of the job are read; its rows and answer wait for room. */
  #isRead = false;

  constructor(task: EncoderTask) {
    this.#task = task;
    this.#log = createLogger({ level: task.logLevel, thread: 'encoder', sync: true });
    this.#slots = new Int32Array(task.channel.slots);
    this.#sleeper = new Sleeper(task.channel.encoderBell);
    this.#input = new RingConsumer(task.channel.input);
    const mainBell = new Doorbell(task.mainBell, () => task.wakeMain.postMessage(0));
    this.#results = new ResultsWriter(new RingProducer(task.channel.results), mainBell);
    this.#rows = new RowsWriter(new RingProducer(task.channel.rows), new Doorbell(task.logBell));
    this.#events = new EventEncoder(task, new ForgottenUsers(task.forgottenUsers));
    this.#stages = new BulkStages(task.channel);
  }

  run(): void {
    for (;;) {
      const tookRequests = this.#takeRequests();
      const workedBulk = this.#workBulk();
      this.#publish();
      if (tookRequests || workedBulk) continue;
      if (this.#bulks.length === 0 && this.#stopping) return;
      this.#rest();
    }
  }

  get #stopping(): boolean {
    return Atomics.load(this.#slots, CHANNEL_SLOT.stop) === 1 && !this.#input.hasNext;
  }

  /** Sleeps until main has a request, or, with rows or an answer that found no room, until there is room. */
  #rest(): void {
    this.#sleeper.prepare();
    const hasWork = this.#input.hasNext || Atomics.load(this.#slots, CHANNEL_SLOT.stop) === 1;
    // A bulk body that could not go on waits for room: try once more now that who makes room will ring.
    if (hasWork || (this.#bulks.length > 0 && this.#workBulk())) {
      this.#sleeper.stayAwake();
      return;
    }
    this.#sleeper.sleep(SLEEP_MS);
  }

  #publish(): void {
    this.#results.publish();
    this.#rows.publish();
  }

  #takeRequests(): boolean {
    const input = this.#input;
    let taken = 0;
    while (taken < BATCH_REQUESTS) {
      const heldFrom = input.position;
      if (!input.next()) break;
      taken += 1;
      this.#takeRequest(heldFrom);
    }
    if (taken > 0) this.#release();
    return taken > 0;
  }

  /** The ring is free up to the first bulk body that still stands in it. */
  #release(): void {
    this.#input.releaseTo(
      this.#bulks.find(({ flags }) => (flags & REQUEST_FLAG.large) === 0)?.heldFrom ?? this.#input.position,
    );
  }

  #takeRequest(heldFrom: number): void {
    const { offset, length, view, bytes } = this.#input;
    const number = view.getUint32(offset + REQUEST.number, true);
    const flags = view.getUint16(offset + REQUEST.flags, true);
    const keyLength = view.getUint16(offset + REQUEST.keyLength, true);
    const arrivalUs = view.getFloat64(offset + REQUEST.arrivalUs, true);
    const keyEnd = offset + REQUEST.headBytes + keyLength;
    const body =
      (flags & REQUEST_FLAG.large) !== 0
        ? Buffer.from(this.#task.channel.largeBody, 0, view.getUint32(offset + REQUEST.largeLength, true))
        : undefined;
    if ((flags & REQUEST_FLAG.bulk) !== 0) {
      this.#bulks.push({ number, flags, arrivalUs, body: body ?? bytes.subarray(keyEnd, offset + length), heldFrom });
      return;
    }
    this.#slots[CHANNEL_SLOT.currentRequest] = number;
    this.#awaitRoomForSingle();
    try {
      const key = keyLength === 0 ? '' : bytes.toString('latin1', offset + REQUEST.headBytes, keyEnd);
      const encoding = encodingOf(flags);
      if (body === undefined && encoding === 'identity') {
        this.#encodeSingle(number, bytes, keyEnd, offset + length, arrivalUs, key);
      } else {
        const sent = body ?? bytes.subarray(keyEnd, offset + length);
        const text = encoding === 'identity' ? sent : this.#decode(sent, flags);
        this.#encodeSingle(number, text, 0, text.length, arrivalUs, key);
      }
    } catch (error) {
      this.#refuse(number, error);
    } finally {
      if (body !== undefined) this.#freeLargeBody();
      this.#slots[CHANNEL_SLOT.currentRequest] = NO_REQUEST;
    }
  }

  /** Room for a row, and before it for the answer: whoever waits for the one has published the other. */
  #awaitRoomForSingle(): void {
    while (!this.#hasRoomForSingle()) {
      this.#publish();
      this.#sleeper.prepare();
      if (this.#hasRoomForSingle()) {
        this.#sleeper.stayAwake();
        return;
      }
      this.#sleeper.sleep(SLEEP_MS);
    }
  }

  #hasRoomForSingle(): boolean {
    return this.#results.hasRoom(SINGLE_ANSWER_MAX_BYTES) && this.#rows.open();
  }

  #encodeSingle(number: number, text: Buffer, start: number, end: number, arrivalUs: number, key: string): void {
    const outcome = this.#events.encode(text, start, end, arrivalUs, key, this.#rows.sink);
    if (outcome instanceof EventFault) {
      const { error, code, details } = outcome;
      const body = JSON.stringify({ error, code, details });
      this.#results.write(
        { number, status: statusOf(code), rowsThrough: undefined, accepted: 0, refused: 1, code },
        body,
      );
      return;
    }
    this.#rows.rowDone();
    writeUuidText(outcome, SINGLE_ACCEPTED, SINGLE_ID_AT);
    this.#results.write(
      { number, status: 202, rowsThrough: this.#rows.through, accepted: 1, refused: 0 },
      SINGLE_ACCEPTED,
    );
  }

  /** One slice of the bulk body whose turn it is; false where there is none or it waits for room. */
  #workBulk(): boolean {
    const bulk = this.#bulks[0];
    if (bulk === undefined) return false;
    this.#slots[CHANNEL_SLOT.currentRequest] = bulk.number;
    let moved = true;
    try {
      moved = this.#isRead ? this.#passOnBulk(bulk) : this.#readBulk(bulk);
    } catch (error) {
      if (this.#results.hasRoom(SINGLE_ANSWER_MAX_BYTES)) {
        this.#refuse(bulk.number, error);
        this.#bulkDone(bulk);
      } else {
        moved = false;
      }
    }
    this.#slots[CHANNEL_SLOT.currentRequest] = NO_REQUEST;
    return moved;
  }

  /** Reads a slice of the events; false where the stages still hold rows that are not synced. */
  #readBulk(bulk: QueuedBulk): boolean {
    if (this.#job === undefined && !this.#stages.next()) return false;
    this.#job ??= new BulkJob(
      encodingOf(bulk.flags) === 'identity' ? bulk.body : this.#decode(bulk.body, bulk.flags),
      {
        ndjson: (bulk.flags & REQUEST_FLAG.ndjson) !== 0,
        minimal: (bulk.flags & REQUEST_FLAG.minimal) !== 0,
        maxEvents: this.#task.bulkMaxEvents,
        arrivalUs: bulk.arrivalUs,
      },
      this.#events,
      this.#stages.sink,
      this.#ids,
    );
    this.#isRead = this.#job.work(SLICE_EVENTS);
    return true;
  }

  /** Passes on the answer and all rows at once, so that they are in one commit; false where one of them finds no room. */
  #passOnBulk(bulk: QueuedBulk): boolean {
    const job = this.#job;
    if (job === undefined) throw new Error('no bulk body is being worked off');
    const { status, body } = job.answer();
    if (!this.#results.hasRoom(body.length)) return false;
    if (job.accepted > 0 && !this.#stages.passOn(this.#rows, job.rows, job.accepted)) return false;
    this.#results.write(
      {
        number: bulk.number,
        status,
        rowsThrough: job.accepted > 0 ? this.#rows.through : undefined,
        accepted: job.accepted,
        refused: job.rejected,
        code: 'validation_error',
      },
      body,
    );
    this.#bulkDone(bulk);
    return true;
  }

  #bulkDone(bulk: QueuedBulk): void {
    this.#bulks.shift();
    this.#job = undefined;
    this.#isRead = false;
    if ((bulk.flags & REQUEST_FLAG.large) !== 0) this.#freeLargeBody();
    this.#release();
  }

  #freeLargeBody(): void {
    Atomics.store(this.#slots, CHANNEL_SLOT.largeBodyTaken, 0);
  }

  #decode(body: Buffer, flags: number): Buffer {
    return decodeBody(body, encodingOf(flags), this.#task.bodyMaxBytes);
  }

  #refuse(number: number, error: unknown): void {
    let refusal = error;
    if (!(refusal instanceof RequestError)) {
      this.#log.error({ err: error, request: number }, 'a request could not be worked off');
      refusal = new RequestError('internal_error', 'the server failed on this request');
    }
    const { status, code, body } = describe(refusal as RequestError);
    this.#results.write({ number, status, rowsThrough: undefined, accepted: 0, refused: 1, code }, body);
  }
}

function describe(error: RequestError): { status: number; code: ErrorCode; body: string } {
  return { status: error.status, code: error.code, body: JSON.stringify(error.body()) };
}

function encodingOf(flags: number): (typeof ENCODINGS)[number] {
  return ENCODINGS[flags >>> ENCODING_SHIFT] ?? 'identity';
}

/** The Piscina task: returns when main has asked it to stop and everything that it had is passed on. */
export default function encode(task: EncoderTask): void {
  new Encoder(task).run();
}
