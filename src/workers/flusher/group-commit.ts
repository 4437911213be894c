import { CHANNEL_SLOT, type ChannelMemory, FAILURE_CODES, ROWS } from '../../shared/channel.js';
import { Doorbell } from '../../shared/doorbell.js';
import { GROUP_MAX_BYTES, SEGMENT_MAX_ROWS } from '../../shared/limits.js';
import { RingConsumer } from '../../shared/ring.js';

/**
 * Gathers what the encoders have published into one group, and tells them and main what became of it.
 *
 * Invariant 1 (a 202 is sent only after the fdatasync that covers the event) lives in the order here: `durableRows` moves
 * only in `Group.durable`, which the log thread calls after the sync; after a failure it moves only when main has seen which
 * rows failed and has answered them.
 */

/** The log thread's end of one encoder generation. */
export class LogChannel {
  readonly id: number;
  readonly slots: Int32Array;
  readonly rows: RingConsumer;
  readonly stages: readonly Buffer[];
  readonly encoderBell: Doorbell;
  /** Rows in the last group, and how far the channel is with them. */
  through = 0;
  durableThrough = 0;
  inGroup = false;
  closing = false;

  constructor(id: number, memory: ChannelMemory) {
    this.id = id;
    this.slots = new Int32Array(memory.slots);
    this.rows = new RingConsumer(memory.rows);
    this.stages = memory.stages.map((stage) => Buffer.from(stage));
    this.encoderBell = new Doorbell(memory.encoderBell);
  }
}

export class Group {
  /** Row bytes in place in the rings, in order. */
  readonly pieces: Uint8Array[] = [];
  bytes = 0;
  rows = 0;
  readonly #channels: LogChannel[] = [];
  #first = 0;

  /** Takes everything that is there, up to one group's bounds; another channel comes first each time. */
  gather(channels: readonly LogChannel[]): void {
    this.#first = (this.#first + 1) % Math.max(1, channels.length);
    for (let i = 0; i < channels.length; i += 1) {
      const channel = channels[(this.#first + i) % channels.length];
      if (channel !== undefined) this.#take(channel);
    }
  }

  #take(channel: LogChannel): void {
    const { rows } = channel;
    for (let before = rows.position; rows.next(); before = rows.position) {
      const { offset, length, view, bytes } = rows;
      const count = view.getUint32(offset + ROWS.count, true);
      const stage = view.getUint32(offset + ROWS.stage, true);
      const piece =
        stage === 0
          ? bytes.subarray(offset + ROWS.headBytes, offset + length)
          : channel.stages[stage - 1]?.subarray(0, view.getUint32(offset + ROWS.stageBytes, true));
      if (piece === undefined) throw new Error(`a record of rows points to stage ${stage}, which is not there`);
      if (!this.#hasRoom(piece.length, count)) {
        rows.seek(before);
        return;
      }
      if (!channel.inGroup) {
        channel.inGroup = true;
        this.#channels.push(channel);
      }
      this.pieces.push(piece);
      this.bytes += piece.length;
      this.rows += count;
      channel.through = view.getUint32(offset + ROWS.through, true);
    }
  }

  /** A record is taken whole: one that is larger than a group should be is a group of its own. */
  #hasRoom(bytes: number, rows: number): boolean {
    if (this.rows === 0) return true;
    return this.bytes + bytes <= GROUP_MAX_BYTES && this.rows + rows <= SEGMENT_MAX_ROWS;
  }

  /** The group is synced: its requests may be answered, its memory be used again. */
  durable(): void {
    for (const channel of this.#channels) this.#advance(channel);
    this.#clear();
  }

  /** The group is not durable: says so to main, which answers its requests; `settled` tells when it has. */
  failed(code: (typeof FAILURE_CODES)[number]): void {
    for (const { slots, durableThrough, through } of this.#channels) {
      Atomics.store(slots, CHANNEL_SLOT.failedFrom, durableThrough | 0);
      Atomics.store(slots, CHANNEL_SLOT.failedThrough, through | 0);
      Atomics.store(slots, CHANNEL_SLOT.failureCode, FAILURE_CODES.indexOf(code));
      Atomics.add(slots, CHANNEL_SLOT.failures, 1);
    }
  }

  /** Whether main has answered every failed request; the group is then forgotten. */
  settled(): boolean {
    for (const { slots } of this.#channels) {
      if (Atomics.load(slots, CHANNEL_SLOT.failureSeen) !== Atomics.load(slots, CHANNEL_SLOT.failures)) return false;
    }
    for (const channel of this.#channels) this.#advance(channel);
    this.#clear();
    return true;
  }

  #advance(channel: LogChannel): void {
    channel.durableThrough = channel.through;
    channel.inGroup = false;
    Atomics.store(channel.slots, CHANNEL_SLOT.durableRows, channel.through | 0);
    channel.rows.release();
    channel.encoderBell.ring();
  }

  #clear(): void {
    this.#channels.length = 0;
    this.pieces.length = 0;
    this.bytes = 0;
    this.rows = 0;
  }
}
