import fs from 'node:fs';
import { SEGMENT_MAX_ROWS } from '../../shared/limits.js';
import { decodeFrameHead, FRAME_HEAD_BYTES, FRAME_ID_AT, type FrameHead } from '../../workers/flusher/wal/format.js';

/**
 * What can still be read of bytes that were set aside: frame heads, at the places where frames begin. Nothing is shipped on
 * their word, they only say which sequence numbers were there; so the checksum, which covers the payload too, need not hold.
 * That a head is one is vouched for by its place, which it names itself, and by its epoch, which must be known.
 */
export function looseFrames(file: string, fileOffset: number, epochs: ReadonlySet<string>): FrameHead[] {
  const bytes = fs.readFileSync(file);
  const frames: FrameHead[] = [];
  for (let at = 0; at + FRAME_HEAD_BYTES <= bytes.length; at += 8) {
    const head = bytes.subarray(at, at + FRAME_HEAD_BYTES);
    const frame = decodeFrameHead(head, head.readBigUInt64LE(FRAME_ID_AT), fileOffset + at, Infinity);
    if (frame === undefined || !epochs.has(String(frame.epoch))) continue;
    if (frame.rows > 0 && frame.rows <= SEGMENT_MAX_ROWS) frames.push(frame);
  }
  return frames;
}
