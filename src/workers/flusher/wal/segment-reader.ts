import fs from 'node:fs';
import {
  crcSeed,
  decodeFrameHead,
  decodeSegmentHead,
  FRAME_HEAD_BYTES,
  type FrameHead,
  frameBytes,
  frameIsIntact,
  SEGMENT_HEAD_BYTES,
  type SegmentHead,
} from './format.js';

/**
 * Reads what a segment file holds, whatever a crash or a disk has made of it. Frames are taken in order up to the first
 * that is not intact. What is wrong there is decided by what stands behind it:
 *
 *   a later intact frame says that the file was synced beyond it  → damage: set aside; reading goes on at that frame
 *   none does, and nothing but zeros follows                     → the end of the segment
 *   none does, and something follows                              → a tear: the file was being written when the end came; cut
 *
 * Nothing behind a tear was ever acknowledged: a frame is acknowledged only after the sync that covers it.
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
  try {
    return new Scanner(fd, fs.fstatSync(fd).size, onPayload).scan();
  } finally {
    fs.closeSync(fd);
  }
}

/** When a segment was opened, in Unix ms: no event in it was acknowledged before that. 1 where its head is gone. */
export function createdAtMs(file: string): number {
  const fd = fs.openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(SEGMENT_HEAD_BYTES);
    const head = decodeSegmentHead(bytes.subarray(0, fs.readSync(fd, bytes, 0, SEGMENT_HEAD_BYTES, 0)));
    return typeof head === 'string' || 'newerVersion' in head ? 1 : head.createdAtMs;
  } finally {
    fs.closeSync(fd);
  }
}

/** Of the reader at first: most frames fit. */
const BUFFER_BYTES = 1024 * 1024;

class Scanner {
  readonly #fd: number;
  readonly #size: number;
  readonly #onPayload: OnPayload;
  #buffer: Buffer;

  constructor(fd: number, size: number, onPayload: OnPayload) {
    this.#fd = fd;
    this.#size = size;
    this.#onPayload = onPayload;
    this.#buffer = Buffer.allocUnsafe(Math.min(BUFFER_BYTES, size));
  }

  scan(): SegmentScan {
    const head = decodeSegmentHead(this.#read(0, Math.min(SEGMENT_HEAD_BYTES, this.#size)));
    if (typeof head === 'string') {
      return this.#size <= SEGMENT_HEAD_BYTES ? { kind: 'unborn' } : { kind: 'headless', bytes: this.#size };
    }
    if ('newerVersion' in head) return { kind: 'newer', version: head.newerVersion };

    const frames: FrameRef[] = [];
    const damages: Gap[] = [];
    let tear: Gap | undefined;
    let rows = 0;
    let bytes = 0;
    let at = SEGMENT_HEAD_BYTES;
    while (at < this.#size) {
      const frame = this.#frameAt(head, at);
      if (frame === undefined) {
        const next = this.#resumeBehind(head, at);
        if (next === undefined) {
          if (!this.#onlyZeros(at)) tear = { offset: at, bytes: this.#size - at };
          break;
        }
        damages.push({ offset: at, bytes: next.offset - at });
        at = next.offset;
        continue;
      }
      if (frame.rows > 0) {
        frames.push({ ...frame, payloadOffset: at + FRAME_HEAD_BYTES });
        this.#onPayload(this.#buffer.subarray(FRAME_HEAD_BYTES, FRAME_HEAD_BYTES + frame.length));
        rows += frame.rows;
        bytes += frame.length;
      }
      at += frameBytes(frame.length);
    }
    return { kind: 'segment', head, frames, rows, bytes, damages, tear };
  }

  /** The intact frame at `at`, its bytes at the start of the buffer. */
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

  /**
   * Where reading goes on behind a bad frame at `at`: the first intact frame behind it, provided that one of those behind it
   * was written when the file was known to be synced beyond `at`. Frames start at multiples of 8.
   */
  #resumeBehind(head: SegmentHead, at: number): FrameHead | undefined {
    let first: FrameHead | undefined;
    let probe = at + 8;
    while (probe + FRAME_HEAD_BYTES <= this.#size) {
      const frame = this.#frameAt(head, probe);
      if (frame === undefined) {
        probe += 8;
        continue;
      }
      first ??= frame;
      if (frame.syncedBytes > at) return first;
      probe += frameBytes(frame.length);
    }
    return undefined;
  }

  #onlyZeros(from: number): boolean {
    const step = 64 * 1024;
    for (let at = from; at < this.#size; at += step) {
      if (this.#read(at, Math.min(step, this.#size - at)).some((byte) => byte !== 0)) return false;
    }
    return true;
  }

  #read(at: number, length: number): Buffer {
    if (this.#buffer.length < length) this.#buffer = Buffer.allocUnsafe(Math.max(length, this.#buffer.length * 2));
    let got = 0;
    while (got < length) {
      const n = fs.readSync(this.#fd, this.#buffer, got, length - got, at + got);
      if (n === 0) break;
      got += n;
    }
    return this.#buffer.subarray(0, got);
  }
}
