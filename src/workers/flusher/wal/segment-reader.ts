import fs from 'node:fs';
import {
  crcSeed,
  decodeFrameHead,
  decodeSegmentHead,
  FRAME_HEAD_BYTES,
  FRAME_ID_AT,
  type FrameHead,
  frameBytes,
  frameIsIntact,
  resemblesFrame,
  SEGMENT_HEAD_BYTES,
  type SegmentHead,
} from './format.js';

/**
 * Reads what a segment file holds, whatever a crash or a disk has made of it. Frames are taken in order up to the first
 * that is not intact. What is wrong there is decided by what stands behind it:
 *
 *   it is the empty frame that seals the segment                  → the end
 *   a later intact frame says that the file was synced beyond it  → damage: set aside; reading goes on at that frame
 *   none does, and nothing but zeros follows                      → the end of a segment that was never sealed
 *   none does, and something follows                              → a tear: the file was being written when the end came; cut
 *
 * Nothing behind a tear was ever acknowledged: a frame is acknowledged only after the sync that covers it. In a recycled
 * file, what follows the end are remains of its former life, with another segment's id: there, only what resembles a frame of
 * this segment is a tear.
 */

/** A stretch of the file that holds no frame that can be trusted. */
export interface Gap {
  readonly offset: number;
  readonly bytes: number;
}

/** Where an intact frame's rows stand in the file. */
export interface FrameRef extends FrameHead {
  readonly payloadOffset: number;
}

export type SegmentScan =
  | {
      readonly kind: 'segment';
      readonly head: SegmentHead;
      /** Intact frames with rows, in order. */
      readonly frames: readonly FrameRef[];
      readonly rows: number;
      /** Row bytes of all frames. */
      readonly bytes: number;
      /** Where the segment ends in its file: a recycled file is longer. */
      readonly end: number;
      /** Sequence number behind the last row that the segment is known to have had. */
      readonly nextSequence: bigint | undefined;
      readonly sealed: boolean;
      readonly damages: readonly Gap[];
      readonly tear: Gap | undefined;
    }
  /** No byte of it was ever synced as a segment: an open that a crash cut short. */
  | { readonly kind: 'unborn' }
  | { readonly kind: 'newer'; readonly version: number }
  /** The head is gone, but the file is longer than a head: frames may have been acknowledged. */
  | { readonly kind: 'headless'; readonly bytes: number };

/** Called with every intact frame's payload in order; the bytes are valid during the call only. */
export type OnPayload = (payload: Buffer) => void;

/** Scans a segment file. Throws only where the file cannot be read. */
export function scanSegment(file: string, onPayload: OnPayload = () => undefined): SegmentScan {
  const fd = fs.openSync(file, 'r');
  const buffer = idleBuffer ?? Buffer.allocUnsafeSlow(READ_BYTES);
  idleBuffer = undefined;
  try {
    return new Scanner(fd, fs.fstatSync(fd).size, buffer, onPayload).scan();
  } finally {
    idleBuffer = buffer;
    fs.closeSync(fd);
  }
}

/** Of the last scan in this thread. New memory for each is touched page by page, which some machines take longer for than for reading into it. */
let idleBuffer: Buffer | undefined;

/**
 * When a segment was opened, in Unix ms: no event in it was acknowledged before that. 1 where its head is gone or the disk does
 * not give it: the shipper deals with that.
 */
export function createdAtMs(file: string): number {
  try {
    const fd = fs.openSync(file, 'r');
    try {
      const bytes = Buffer.alloc(SEGMENT_HEAD_BYTES);
      const head = decodeSegmentHead(bytes.subarray(0, fs.readSync(fd, bytes, 0, SEGMENT_HEAD_BYTES, 0)));
      return typeof head === 'string' || 'newerVersion' in head ? 1 : head.createdAtMs;
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    return 1;
  }
}

/** Read at once, and more where a frame is longer: under light load a frame is a few hundred bytes. */
const READ_BYTES = 1024 * 1024;

class Scanner {
  readonly #fd: number;
  readonly #size: number;
  readonly #onPayload: OnPayload;
  /** Bytes of the file from `#from` on, `#filled` of them. */
  #buffer: Buffer;
  #from = 0;
  #filled = 0;

  constructor(fd: number, size: number, buffer: Buffer, onPayload: OnPayload) {
    this.#fd = fd;
    this.#size = size;
    this.#onPayload = onPayload;
    this.#buffer = buffer;
  }

  scan(): SegmentScan {
    const head = decodeSegmentHead(this.#read(0, Math.min(SEGMENT_HEAD_BYTES, this.#size)));
    if (typeof head === 'string') {
      return this.#size <= SEGMENT_HEAD_BYTES ? { kind: 'unborn' } : { kind: 'headless', bytes: this.#size };
    }
    if ('newerVersion' in head) return { kind: 'newer', version: head.newerVersion };

    return this.#scanFrames(head);
  }

  #scanFrames(head: SegmentHead): SegmentScan {
    const frames: FrameRef[] = [];
    const damages: Gap[] = [];
    let tear: Gap | undefined;
    let rows = 0;
    let bytes = 0;
    let at = SEGMENT_HEAD_BYTES;
    let nextSequence: bigint | undefined;
    let sealed = false;
    while (at < this.#size && !sealed) {
      const frame = this.#frameAt(head, at);
      if (frame === undefined) {
        const behind = this.#behindBad(head, at);
        if (behind.resume === undefined) {
          tear = behind.tear;
          break;
        }
        damages.push({ offset: at, bytes: behind.resume - at });
        at = behind.resume;
        continue;
      }
      if (frame.rows > 0) {
        const payloadOffset = at + FRAME_HEAD_BYTES;
        frames.push({ ...frame, payloadOffset });
        this.#onPayload(this.#read(payloadOffset, frame.length));
        rows += frame.rows;
        bytes += frame.length;
      }
      nextSequence = frame.firstSequence + BigInt(frame.rows);
      sealed = frame.rows === 0;
      at += frameBytes(frame.length);
    }
    return { kind: 'segment', head, frames, rows, bytes, end: at, nextSequence, sealed, damages, tear };
  }

  /** The intact frame at `at`. */
  #frameAt(head: SegmentHead, at: number): FrameHead | undefined {
    const frame = decodeFrameHead(
      this.#read(at, Math.min(FRAME_HEAD_BYTES, this.#size - at)),
      head.segmentId,
      at,
      this.#size - at,
    );
    if (frame === undefined) return undefined;
    const bytes = this.#read(at, FRAME_HEAD_BYTES + frame.length);
    return frameIsIntact(bytes, frame, crcSeed(head.segmentId)) ? frame : undefined;
  }

  /** What is to be made of bytes at `at` that are no intact frame: where reading resumes, or what was torn there. */
  #behindBad(head: SegmentHead, at: number): { resume?: number; tear?: Gap } {
    const headBytes = this.#read(at, Math.min(FRAME_HEAD_BYTES, this.#size - at));
    const isTorn = head.recycled ? resemblesFrame(headBytes, head.segmentId) : !this.#onlyZeros(at);
    let first: number | undefined;
    let end = at;
    for (const frame of this.#framesBehind(head, at)) {
      first ??= frame.offset;
      if (frame.syncedBytes > at) return { resume: first };
      end = frame.offset + frameBytes(frame.length);
    }
    if (first === undefined && !isTorn) return {};
    return { tear: { offset: at, bytes: (head.recycled && first !== undefined ? end : this.#size) - at } };
  }

  #onlyZeros(from: number): boolean {
    const step = 64 * 1024;
    for (let at = from; at < this.#size; at += step) {
      if (this.#read(at, Math.min(step, this.#size - at)).some((byte) => byte !== 0)) return false;
    }
    return true;
  }

  /** Intact frames of this segment behind `at`, wherever they stand. Found by the segment's id, which every head carries. */
  *#framesBehind(head: SegmentHead, at: number): Generator<FrameHead> {
    const id = Buffer.alloc(8);
    id.writeBigUInt64LE(head.segmentId);
    const step = 1024 * 1024;
    for (let from = at + 8; from < this.#size;) {
      const chunk = Buffer.from(this.#read(from, Math.min(step, this.#size - from)));
      const found = chunk.indexOf(id);
      if (found === -1) {
        // An id may stand across two chunks.
        from += Math.max(1, chunk.length - 7);
        if (chunk.length < step) return;
        continue;
      }
      const offset = from + found - FRAME_ID_AT;
      const frame = offset > at ? this.#frameAt(head, offset) : undefined;
      if (frame !== undefined) yield frame;
      from = frame === undefined ? from + found + 1 : offset + frameBytes(frame.length);
    }
  }

  /** Bytes of the file, fewer at its end; valid until the next call. */
  #read(at: number, length: number): Buffer {
    if (at < this.#from || at + length > this.#from + this.#filled) this.#fill(at, length);
    const start = at - this.#from;
    return this.#buffer.subarray(start, Math.min(start + length, this.#filled));
  }

  /** Reads at least `length` bytes, as far as there are so many. */
  #fill(at: number, length: number): void {
    const ahead = Math.max(length, Math.min(READ_BYTES, this.#size - at));
    try {
      this.#load(at, ahead);
    } catch (error) {
      // A sector further on may be what cannot be read.
      if (ahead === length) throw error;
      this.#load(at, length);
    }
  }

  #load(at: number, length: number): void {
    if (this.#buffer.length < length) this.#buffer = Buffer.allocUnsafe(Math.max(length, this.#buffer.length * 2));
    this.#from = at;
    this.#filled = 0;
    while (this.#filled < length) {
      const n = fs.readSync(this.#fd, this.#buffer, this.#filled, length - this.#filled, at + this.#filled);
      if (n === 0) break;
      this.#filled += n;
    }
  }
}
