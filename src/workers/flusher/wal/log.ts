import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { FLOW_SLOT, type FlowMemory } from '../../../shared/channel.js';
import { Counters } from '../../../shared/counters.js';
import { SEGMENTS_MAX } from '../../../shared/limits.js';
import type { Logger } from '../../../shared/log.js';
import { messageOf } from '../../../shared/errors.js';
import type { WalFileSystem } from './file-system.js';
import { ordinalOf, segmentName } from './format.js';
import { createdAtMs } from './segment-reader.js';
import { SegmentWriter } from './segment-writer.js';

/**
 * The log of one process: a row of segments, the last of which is written to. Segments of earlier processes are never
 * appended to; they count as sealed from the start. There is no checkpoint: a segment whose file exists has not been
 * confirmed by ClickHouse.
 */
export class Log {
  readonly #fs: WalFileSystem;
  readonly #directory: string;
  readonly #flow: Int32Array;
  readonly #firstCommits: Float64Array;
  readonly #counters: Counters;
  readonly #log: Logger;
  readonly #epoch = randomBytes(8).readBigUInt64LE();
  #sequence = 0n;
  #nextOrdinal: number;
  #active: SegmentWriter | undefined;
  #activeSince = 0;

  constructor(fs: WalFileSystem, directory: string, flow: FlowMemory, log: Logger) {
    this.#fs = fs;
    this.#directory = directory;
    this.#flow = new Int32Array(flow.slots);
    this.#firstCommits = new Float64Array(flow.firstCommits);
    this.#counters = new Counters(flow.counters);
    this.#log = log;
    this.#nextOrdinal = this.#adoptEarlier();
    Atomics.store(this.#flow, FLOW_SLOT.activeOrdinal, this.#nextOrdinal);
  }

  /** Rows in the active segment. */
  get activeRows(): number {
    return this.#active?.rows ?? 0;
  }

  /** Ms since the active segment's first commit, by the monotonic clock. */
  get activeAgeMs(): number {
    return performance.now() - this.#activeSince;
  }

  /**
   * Makes one group durable, in a new segment where the active one has no room. Throws where the disk refuses; the group is
   * then not in the log as far as anyone was told, and the next one goes into a new segment.
   */
  append(pieces: readonly Uint8Array[], bytes: number, rows: number): void {
    if (this.#active !== undefined && !this.#active.hasRoom(rows, bytes)) this.seal();
    const segment = this.#active ?? this.#open();
    const before = segment.bytes;
    const nowMs = Date.now();
    const slot = segment.ordinal % SEGMENTS_MAX;
    // Before the acknowledgement: `as_of` must not pass an event that is acknowledged and not yet shipped.
    if (this.#firstCommits[slot] === 0) this.#firstCommits[slot] = nowMs;
    try {
      segment.append(pieces, bytes, rows, this.#sequence, nowMs);
    } catch (error) {
      this.#abandon();
      throw error;
    }
    if (segment.rows === rows) this.#activeSince = performance.now();
    this.#sequence += BigInt(rows);
    this.#counters.add('walBytesAppended', segment.bytes - before);
  }

  /** Opens the next segment, so that the first group that needs it does not wait for that. */
  prepare(): void {
    if (this.#active === undefined) this.#open();
  }

  /** Hands the active segment to the shipper; nothing to do where it has no rows. */
  seal(): void {
    const segment = this.#active;
    if (segment === undefined || segment.rows === 0) return;
    this.#active = undefined;
    try {
      segment.seal(this.#sequence, Date.now());
    } catch (error) {
      this.#log.warn({ file: segment.file, err: error }, 'sealing a segment failed; its frames are intact');
    }
    this.#counters.add('walSegmentsSealed', 1);
    this.#passOn(segment);
  }

  /** Seals, and leaves no empty segment behind. */
  close(): void {
    this.seal();
    if (this.#active === undefined) return;
    this.#counters.add('walBytesAppended', -this.#active.bytes);
    this.#active.removeEmpty();
    this.#active = undefined;
  }

  /** After a failed write or sync, the pages may be gone: this file is never written to again. */
  #abandon(): void {
    const segment = this.#active;
    if (segment === undefined) return;
    this.#active = undefined;
    segment.abandon();
    this.#passOn(segment);
  }

  #passOn({ ordinal, file, bytes }: Pick<SegmentWriter, 'ordinal' | 'file' | 'bytes'>): void {
    // What the shipper will free is the file's size: a seal is not synced, and a failed write may have left something.
    try {
      this.#counters.add('walBytesAppended', this.#fs.size(file) - bytes);
    } catch (error) {
      this.#log.warn({ file, err: error }, 'the size of a segment is not known');
    }
    this.#nextOrdinal = ordinal + 1;
    this.#firstCommits[this.#nextOrdinal % SEGMENTS_MAX] = 0;
    Atomics.store(this.#flow, FLOW_SLOT.activeOrdinal, this.#nextOrdinal);
  }

  #open(): SegmentWriter {
    const id = randomBytes(8).readBigUInt64LE();
    let segment: SegmentWriter;
    try {
      segment = new SegmentWriter(this.#fs, this.#directory, this.#nextOrdinal, id, this.#epoch);
    } catch (error) {
      this.#skipLeftOver();
      throw error;
    }
    this.#counters.add('walBytesAppended', segment.bytes);
    this.#active = segment;
    return segment;
  }

  /** A segment that could be neither opened nor removed keeps its name: the next one takes another, the shipper removes this. */
  #skipLeftOver(): void {
    const file = path.join(this.#directory, segmentName(this.#nextOrdinal));
    try {
      this.#fs.size(file);
    } catch {
      return;
    }
    this.#passOn({ ordinal: this.#nextOrdinal, file, bytes: 0 });
  }

  /** Counts what earlier processes left, and returns the first free ordinal. */
  #adoptEarlier(): number {
    const ordinals: number[] = [];
    for (const name of this.#fs.list(this.#directory)) {
      const ordinal = ordinalOf(name);
      if (ordinal === undefined) continue;
      ordinals.push(ordinal);
      this.#firstCommits[ordinal % SEGMENTS_MAX] = createdAtMs(path.join(this.#directory, name));
      try {
        this.#counters.add('walBytesAppended', this.#fs.size(path.join(this.#directory, name)));
      } catch (error) {
        throw new Error(`cannot read ${path.join(this.#directory, name)}: ${messageOf(error)}`, { cause: error });
      }
    }
    return ordinals.reduce((highest, ordinal) => Math.max(highest, ordinal), 0) + 1;
  }
}
