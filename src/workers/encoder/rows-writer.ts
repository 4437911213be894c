import { ROWS } from '../../shared/channel.js';
import type { Doorbell } from '../../shared/doorbell.js';
import { ROW_MAX_BYTES, ROWS_RECORD_BYTES } from '../../shared/limits.js';
import type { RingProducer } from '../../shared/ring.js';
import { Sink } from '../../shared/rowbinary.js';

/** Rows into the ring to the log thread: single events are encoded in place, row behind row in one open record. */
export class RowsWriter {
  /** Stands in the open record after `open`. */
  readonly sink: Sink;
  readonly #ring: RingProducer;
  readonly #logBell: Doorbell;
  /** Start of the open record's payload; -1 where none is open. */
  #start = -1;
  #count = 0;
  #through = 0;

  constructor(ring: RingProducer, logBell: Doorbell) {
    this.#ring = ring;
    this.#logBell = logBell;
    this.sink = new Sink(ring.bytes);
  }

  /** Rows of this channel so far, modulo 2^32. */
  get through(): number {
    return this.#through;
  }

  /** Makes room for one more row at the sink; false where the ring has none now. */
  open(): boolean {
    if (this.#start !== -1 && this.sink.at + ROW_MAX_BYTES <= this.#start + ROWS_RECORD_BYTES) return true;
    this.#close();
    const start = this.#ring.reserve(ROWS_RECORD_BYTES);
    if (start === -1) return false;
    this.#start = start;
    this.sink.at = start + ROWS.headBytes;
    return true;
  }

  /** The row that was encoded at the sink is complete. */
  rowDone(): void {
    this.#count += 1;
    this.#through = (this.#through + 1) >>> 0;
  }

  /** Copies `rows` encoded rows as a record of their own; false where the ring has no room now. */
  append(bytes: Uint8Array, rows: number): boolean {
    this.#close();
    const start = this.#ring.reserve(ROWS.headBytes + bytes.length);
    if (start === -1) return false;
    this.#ring.bytes.set(bytes, start + ROWS.headBytes);
    this.#through = (this.#through + rows) >>> 0;
    this.#commit(start, ROWS.headBytes + bytes.length, rows);
    return true;
  }

  /** Passes on the rows at the start of a stage, which stays as it is until they are synced; false where there is no room now. */
  appendStaged(stage: number, bytes: number, rows: number): boolean {
    this.#close();
    const start = this.#ring.reserve(ROWS.headBytes);
    if (start === -1) return false;
    this.#through = (this.#through + rows) >>> 0;
    this.#commit(start, ROWS.headBytes, rows, stage + 1, bytes);
    return true;
  }

  /** Shows the log thread everything so far. The results that wait for these rows must have been published before. */
  publish(): void {
    this.#close();
    if (this.#ring.publish()) this.#logBell.ring();
  }

  #close(): void {
    if (this.#start === -1) return;
    if (this.#count > 0) this.#commit(this.#start, this.sink.at - this.#start, this.#count);
    this.#start = -1;
    this.#count = 0;
  }

  #commit(start: number, length: number, rows: number, stage = 0, stageBytes = 0): void {
    const { view } = this.#ring;
    view.setUint32(start + ROWS.count, rows, true);
    view.setUint32(start + ROWS.through, this.#through, true);
    view.setUint32(start + ROWS.stage, stage, true);
    view.setUint32(start + ROWS.stageBytes, stageBytes, true);
    this.#ring.commit(length);
  }
}
