import { CHANNEL_SLOT, type ChannelMemory, ROWS } from '../../shared/channel.js';
import { ROWS_RECORD_BYTES } from '../../shared/limits.js';
import { Sink } from '../../shared/rowbinary.js';
import type { RowsWriter } from './rows-writer.js';

/**
 * Where the rows of bulk bodies are encoded, out of sight of the log thread until all of a body is known to be acceptable.
 * Few rows are then copied into the rows ring; many are passed on where they stand, and the next body takes another stage
 * until they are synced. Either way they are one record, and so in one commit: a body is in the log whole or not at all.
 */
interface Stage {
  readonly sink: Sink;
  /** Rows of the channel that must be synced before the stage is free again; undefined where it is. */
  heldThrough: number | undefined;
}

export class BulkStages {
  readonly #slots: Int32Array;
  readonly #stages: readonly Stage[];
  #current = 0;

  constructor(channel: ChannelMemory) {
    this.#slots = new Int32Array(channel.slots);
    this.#stages = channel.stages.map((memory) => ({ sink: new Sink(Buffer.from(memory)), heldThrough: undefined }));
  }

  /** Takes a free stage for the next body; false where there is none. The log thread rings when it has synced. */
  next(): boolean {
    const durable = Atomics.load(this.#slots, CHANNEL_SLOT.durableRows);
    const free = this.#stages.findIndex(
      ({ heldThrough }) => heldThrough === undefined || ((durable - heldThrough) | 0) >= 0,
    );
    if (free === -1) return false;
    this.#current = free;
    const stage = this.#stages[free];
    if (stage !== undefined) stage.heldThrough = undefined;
    return true;
  }

  /** The stage that `next` took. */
  get sink(): Sink {
    const stage = this.#stages[this.#current];
    if (stage === undefined) throw new Error('an encoder has no stage for bulk bodies');
    return stage.sink;
  }

  /** Passes on the rows that were encoded there; false where the ring has no room now. */
  passOn(writer: RowsWriter, rows: Uint8Array, count: number): boolean {
    if (ROWS.headBytes + rows.length <= ROWS_RECORD_BYTES) return writer.append(rows, count);
    if (!writer.appendStaged(this.#current, rows.length, count)) return false;
    const stage = this.#stages[this.#current];
    if (stage !== undefined) stage.heldThrough = writer.through;
    return true;
  }
}
