import path from 'node:path';
import { SEGMENT_MAX_BYTES, SEGMENT_MAX_ROWS } from '../../../shared/limits.js';
import type { WalFileSystem } from './file-system.js';
import {
  crcSeed,
  encodeFrameHead,
  encodeSegmentHead,
  FRAME_HEAD_BYTES,
  frameBytes,
  padding,
  ROW_FORMAT_VERSION,
  SEGMENT_HEAD_BYTES,
  segmentName,
  WAL_FORMAT_VERSION,
} from './format.js';

const ZEROS = Buffer.alloc(8);

export interface SegmentIdentity {
  readonly ordinal: number;
  readonly segmentId: bigint;
  readonly epoch: bigint;
}

/**
 * The active segment. Its head and its directory entry are durable before the first frame is written, a frame is durable
 * when `append` has returned; a segment that failed once is never written to again.
 *
 * A spare, the file of a confirmed segment, is written over from its start: its blocks exist, so a sync writes data only (half
 * the cost of a commit). What it still holds of its former life has another segment's id and passes for nothing.
 */
export class SegmentWriter {
  readonly ordinal: number;
  readonly file: string;
  readonly #fs: WalFileSystem;
  readonly #fd: number;
  readonly #segmentId: bigint;
  readonly #epoch: bigint;
  readonly #seed: number;
  readonly #frameHead = Buffer.alloc(FRAME_HEAD_BYTES);
  #position = SEGMENT_HEAD_BYTES;
  #synced = SEGMENT_HEAD_BYTES;
  #rows = 0;

  /** `spare` is the path of a file to write over; it is renamed when its new head is durable. */
  constructor(fs: WalFileSystem, directory: string, { ordinal, segmentId, epoch }: SegmentIdentity, spare?: string) {
    this.ordinal = ordinal;
    this.file = path.join(directory, segmentName(ordinal));
    this.#fs = fs;
    this.#segmentId = segmentId;
    this.#epoch = epoch;
    this.#seed = crcSeed(segmentId);
    this.#fd = spare === undefined ? fs.create(this.file) : fs.reopen(spare);
    const head = {
      version: WAL_FORMAT_VERSION,
      rowFormat: ROW_FORMAT_VERSION,
      segmentId,
      epoch,
      ordinal,
      createdAtMs: Date.now(),
      recycled: spare !== undefined,
    };
    try {
      fs.writeAll(this.#fd, [encodeSegmentHead(head)], 0);
      fs.syncData(this.#fd);
      if (spare !== undefined) fs.rename(spare, this.file);
      fs.syncDirectory(directory);
    } catch (error) {
      this.#discard(spare);
      throw error;
    }
  }

  get rows(): number {
    return this.#rows;
  }

  /** Bytes of the segment that are durable, whatever the size of its file. */
  get bytes(): number {
    return this.#synced;
  }

  /** Whether a frame of this size may still go into this segment. */
  hasRoom(rows: number, length: number): boolean {
    // The frame that seals the segment must fit behind it.
    return (
      this.#rows + rows <= SEGMENT_MAX_ROWS && this.#position + frameBytes(length) + frameBytes(0) <= SEGMENT_MAX_BYTES
    );
  }

  /**
   * Appends one frame and syncs it. Throws where the disk refuses: nothing of the frame may be acknowledged then, and the
   * only thing left to do with this writer is `abandon`.
   */
  append(payload: readonly Uint8Array[], length: number, rows: number, firstSequence: bigint, nowMs: number): void {
    this.#write(payload, length, rows, firstSequence, nowMs);
    this.#fs.syncData(this.#fd);
    this.#synced = this.#position;
    this.#rows += rows;
  }

  /**
   * Ends the segment with an empty frame that says how far it is synced: damage anywhere before it is known as such, and what
   * stands behind it in a recycled file is not looked at. That frame is not synced itself: without it the last frame's
   * damage looks like a tear, no more. Returns the segment's bytes, that frame included.
   */
  seal(nextSequence: bigint, nowMs: number): number {
    try {
      this.#write([], 0, 0, nextSequence, nowMs);
      return this.#position;
    } finally {
      this.#fs.close(this.#fd);
    }
  }

  /** After a failure: cuts what is not durable where the disk still lets us, and closes the file. */
  abandon(): void {
    try {
      this.#fs.truncate(this.#fd, this.#synced);
    } catch {
      // The reader cuts the tail itself; what is durable is intact either way.
    }
    this.#closeQuietly();
  }

  /** Removes a segment that never had a row. */
  removeEmpty(): void {
    this.#fs.close(this.#fd);
    this.#fs.remove(this.file);
  }

  #write(payload: readonly Uint8Array[], length: number, rows: number, firstSequence: bigint, nowMs: number): void {
    encodeFrameHead(
      this.#frameHead,
      {
        segmentId: this.#segmentId,
        epoch: this.#epoch,
        offset: this.#position,
        firstSequence,
        syncedBytes: this.#synced,
        committedAtMs: nowMs,
        rows,
        length,
      },
      this.#seed,
      payload,
    );
    const pad = padding(length);
    const pieces = [this.#frameHead, ...payload];
    if (pad > 0) pieces.push(ZEROS.subarray(0, pad));
    this.#fs.writeAll(this.#fd, pieces, this.#position);
    this.#position += frameBytes(length);
  }

  /** A file that could not become a segment: removed under either name that it may have by now. */
  #discard(spare: string | undefined): void {
    this.#closeQuietly();
    for (const file of spare === undefined ? [this.file] : [spare, this.file]) {
      try {
        this.#fs.remove(file);
      } catch {
        // What stays behind holds no frame of this segment; recovery removes it.
      }
    }
  }

  #closeQuietly(): void {
    try {
      this.#fs.close(this.#fd);
    } catch {
      // Nothing is left to be done with this descriptor.
    }
  }
}
