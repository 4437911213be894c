import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { FLOW_SLOT, type FlowMemory } from '../../../shared/channel.js';
import { monotonicMs } from '../../../shared/clock.js';
import { Counters } from '../../../shared/counters.js';
import { SEGMENTS_MAX } from '../../../shared/limits.js';
import type { Logger } from '../../../shared/log.js';
import { messageOf } from '../../../shared/errors.js';
import type { WalFileSystem } from './file-system.js';
import { isSpare, ordinalOf, segmentName } from './format.js';
import { createdAtMs, scanSegment } from './segment-reader.js';
import { type SegmentIdentity, SegmentWriter } from './segment-writer.js';

/**
 * Every epoch that wrote into a directory: what `penstock audit` goes by. A line `EPOCH TIME` where it begins, and
 * `EPOCH rows N TIME` where it is known to have ended with N rows: at an orderly end, after a failure of the disk, and at the
 * start after a crash. Without that, a last segment that has vanished would leave no trace.
 */
export const EPOCHS_FILE = 'epochs';

/** Folders in the log's own (disposal.ts, set-aside.ts). */
const ASIDE_FOLDERS = ['kept', 'damaged'];

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
  readonly #firstCommitsMonotonic: Float64Array;
  readonly #counters: Counters;
  readonly #log: Logger;
  #epoch = randomBytes(8).readBigUInt64LE();
  #isEpochNoted = false;
  /** The line that ends the epoch before, where it is still to be written. */
  #endOfLast: string | undefined;
  #sequence = 0n;
  #nextOrdinal: number;
  #active: SegmentWriter | undefined;
  #activeSince = 0;

  constructor(fs: WalFileSystem, directory: string, flow: FlowMemory, log: Logger) {
    this.#fs = fs;
    this.#directory = directory;
    this.#flow = new Int32Array(flow.slots);
    this.#firstCommits = new Float64Array(flow.firstCommits);
    this.#firstCommitsMonotonic = new Float64Array(flow.firstCommitsMonotonic);
    this.#counters = new Counters(flow.counters);
    this.#log = log;
    this.#nextOrdinal = this.#adoptEarlier();
    this.#noteFound();
    this.#noteBeginning();
    Atomics.store(this.#flow, FLOW_SLOT.firstOrdinal, this.#nextOrdinal);
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
    if (this.#firstCommits[slot] === 0) {
      this.#firstCommitsMonotonic[slot] = monotonicMs();
      this.#firstCommits[slot] = nowMs;
    }
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
      const { bytes } = segment;
      this.#counters.add('walBytesAppended', segment.seal(this.#sequence, Date.now()) - bytes);
    } catch (error) {
      this.#log.warn({ file: segment.file, err: error }, 'sealing a segment failed; its frames are intact');
    }
    this.#counters.add('walSegmentsSealed', 1);
    this.#passOn(segment.ordinal);
  }

  /** Seals, notes how far the epoch went, and leaves no empty segment behind. */
  close(): void {
    this.seal();
    this.#noteEnd();
    if (this.#active === undefined) return;
    const segment = this.#active;
    this.#active = undefined;
    try {
      segment.removeEmpty();
      this.#counters.add('walBytesAppended', -segment.bytes);
    } catch (error) {
      this.#log.warn({ file: segment.file, err: error }, 'an empty segment stays behind; the next start removes it');
    }
  }

  /**
   * After a failed write or sync, the pages may be gone: this file is never written to again. What failed may still come out
   * of it one day, under its sequence numbers: so that no other row has them, a new epoch begins.
   */
  #abandon(): void {
    const segment = this.#active;
    if (segment === undefined) return;
    this.#active = undefined;
    segment.abandon();
    if (this.#sequence > 0n) this.#endOfLast = endOf(this.#epoch, this.#sequence);
    this.#epoch = randomBytes(8).readBigUInt64LE();
    this.#isEpochNoted = false;
    this.#sequence = 0n;
    this.#passOn(segment.ordinal);
  }

  /** The line's file is durable before the first frame is: opening a segment syncs the directory. */
  #noteEpoch(): void {
    if (this.#isEpochNoted) return;
    if (this.#endOfLast !== undefined) this.#appendEpochLine(this.#endOfLast);
    this.#endOfLast = undefined;
    this.#appendEpochLine(`${this.#epoch} ${new Date().toISOString()}`);
    this.#isEpochNoted = true;
  }

  /** A start needs no room on the disk: where the note finds none, `#open` makes it before the first frame. */
  #noteBeginning(): void {
    try {
      this.#noteEpoch();
    } catch (error) {
      this.#log.warn({ err: error }, 'the beginning of the log is noted when the disk takes it');
    }
  }

  #noteEnd(): void {
    if (this.#sequence === 0n) return;
    try {
      this.#appendEpochLine(endOf(this.#epoch, this.#sequence));
    } catch (error) {
      this.#log.warn({ err: error }, 'the end of the log could not be noted for an audit');
    }
  }

  /** How far the last process came, as far as its last segment is there. Synced first: what is noted must stay. */
  #noteFound(): void {
    try {
      const last = this.#lastFound();
      if (last === undefined) return;
      const fd = this.#fs.reopen(last.file);
      try {
        this.#fs.syncData(fd);
      } finally {
        this.#fs.close(fd);
      }
      this.#appendEpochLine(endOf(last.epoch, last.rows));
    } catch (error) {
      this.#log.warn({ err: error }, 'the end of the last log could not be noted for an audit');
    }
  }

  /** The last segment that has rows; a process leaves one behind it that has none, at the most. */
  #lastFound(): { readonly file: string; readonly epoch: bigint; readonly rows: bigint } | undefined {
    const names = this.#fs.list(this.#directory).filter((name) => ordinalOf(name) !== undefined);
    for (const name of names.toSorted().slice(-2).toReversed()) {
      const file = path.join(this.#directory, name);
      const scan = scanSegment(file);
      const frame = scan.kind === 'segment' ? scan.frames.at(-1) : undefined;
      if (frame !== undefined) return { file, epoch: frame.epoch, rows: frame.firstSequence + BigInt(frame.rows) };
    }
    return undefined;
  }

  #appendEpochLine(line: string): void {
    this.#fs.appendLine(path.join(this.#directory, EPOCHS_FILE), line);
  }

  #passOn(ordinal: number): void {
    this.#nextOrdinal = ordinal + 1;
    this.#firstCommits[this.#nextOrdinal % SEGMENTS_MAX] = 0;
    Atomics.store(this.#flow, FLOW_SLOT.activeOrdinal, this.#nextOrdinal);
  }

  #open(): SegmentWriter {
    this.#noteEpoch();
    const identity = {
      ordinal: this.#nextOrdinal,
      segmentId: randomBytes(8).readBigUInt64LE(),
      epoch: this.#epoch,
    };
    const spare = this.#fs.list(this.#directory).find(isSpare);
    let segment: SegmentWriter;
    try {
      segment = this.#make(identity, spare);
    } catch (error) {
      this.#skipLeftOver();
      throw error;
    }
    this.#counters.add('walBytesAppended', segment.bytes);
    this.#active = segment;
    return segment;
  }

  /** A spare that cannot be written is not a reason to refuse events: a new file may do. */
  #make(identity: SegmentIdentity, spare: string | undefined): SegmentWriter {
    if (spare === undefined) return new SegmentWriter(this.#fs, this.#directory, identity);
    const file = path.join(this.#directory, spare);
    try {
      return new SegmentWriter(this.#fs, this.#directory, identity, file);
    } catch (error) {
      this.#log.warn({ file, err: error }, 'a spare segment cannot be written over');
    }
    return new SegmentWriter(this.#fs, this.#directory, identity);
  }

  /** A segment that could be neither opened nor removed keeps its name: the next one takes another, the shipper removes this. */
  #skipLeftOver(): void {
    const ordinal = this.#nextOrdinal;
    try {
      this.#counters.add('walBytesAppended', this.#fs.size(path.join(this.#directory, segmentName(ordinal))));
    } catch {
      return;
    }
    this.#passOn(ordinal);
  }

  /** Counts what earlier processes left, and returns the first free ordinal. */
  #adoptEarlier(): number {
    const ordinals: number[] = [];
    for (const name of this.#fs.list(this.#directory)) {
      const ordinal = ordinalOf(name);
      if (ordinal === undefined) continue;
      ordinals.push(ordinal);
      const created = createdAtMs(path.join(this.#directory, name));
      const ageMs = Date.now() - created;
      // Of a time to come: the clock was set back since, and nothing is known of when its events were acknowledged.
      this.#firstCommits[ordinal % SEGMENTS_MAX] = ageMs < 0 ? 1 : created;
      this.#firstCommitsMonotonic[ordinal % SEGMENTS_MAX] = monotonicMs() - ageMs;
      try {
        this.#counters.add('walBytesAppended', this.#fs.size(path.join(this.#directory, name)));
      } catch (error) {
        throw new Error(`cannot read ${path.join(this.#directory, name)}: ${messageOf(error)}`, { cause: error });
      }
    }
    for (const name of this.#namesAside()) ordinals.push(leadingOrdinal(name));
    return ordinals.reduce((highest, ordinal) => Math.max(highest, ordinal), 0) + 1;
  }

  /** What is kept or was set aside goes by its segment's name, which none must have again. */
  #namesAside(): string[] {
    const here = this.#fs.list(this.#directory);
    const folders = ASIDE_FOLDERS.filter((name) => here.includes(name));
    return folders.flatMap((name) => this.#fs.list(path.join(this.#directory, name)));
  }
}

function leadingOrdinal(name: string): number {
  return Number(/^(\d{16})\.wal/.exec(name)?.[1] ?? 0);
}

function endOf(epoch: bigint, rows: bigint): string {
  return `${epoch} rows ${rows} ${new Date().toISOString()}`;
}
