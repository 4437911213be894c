import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { nodeFileSystem, type WalFileSystem } from '../../src/workers/flusher/wal/file-system.js';
import { frameBytes, SEGMENT_HEAD_BYTES, segmentName } from '../../src/workers/flusher/wal/format.js';
import { scanSegment, type SegmentScan } from '../../src/workers/flusher/wal/segment-reader.js';
import { SegmentWriter } from '../../src/workers/flusher/wal/segment-writer.js';
import { temporaryDirectory } from './wal.js';

/** Segments as the writer makes them, and what a scan of them must find. */

export const SEGMENT_ID = 0x1122334455667788n;
export const EPOCH = 0x99aabbccddeeff01n;

/** What is read back at once need not outlive the machine, and a sync takes longer than the rest of a test. */
const unsynced: WalFileSystem = { ...nodeFileSystem, syncData: () => undefined, syncDirectory: () => undefined };

export interface Frame {
  readonly start: number;
  readonly end: number;
  readonly payload: Buffer;
  readonly rows: number;
  /** How far the file was synced when it was written. */
  readonly synced: number;
}

interface Segment {
  readonly bytes: Buffer;
  /** With the empty one that seals it, where it is sealed. */
  readonly frames: readonly Frame[];
}

/** Writes a segment as the log does: one frame a group, each synced before the next is written. */
export function writeSegment(directory: string, payloads: readonly Uint8Array[], sealed: boolean): Segment {
  rmSync(join(directory, segmentName(1)), { force: true });
  const writer = new SegmentWriter(unsynced, directory, { ordinal: 1, segmentId: SEGMENT_ID, epoch: EPOCH });
  const frames: Frame[] = [];
  let sequence = 0n;
  let at = SEGMENT_HEAD_BYTES;
  const note = (payload: Buffer, rows: number): void => {
    frames.push({ start: at, end: at + frameBytes(payload.length), payload, rows, synced: at });
    at += frameBytes(payload.length);
  };
  payloads.forEach((payload, index) => {
    const rows = index + 1;
    writer.append([payload], payload.length, rows, sequence, 1_700_000_000_000 + index);
    note(Buffer.from(payload), rows);
    sequence += BigInt(rows);
  });
  if (sealed) {
    writer.seal(sequence, 1_700_000_001_000);
    note(Buffer.alloc(0), 0);
  } else {
    writer.abandon();
  }
  return { bytes: readFileSync(writer.file), frames };
}

export function smallSegment(directory: string, sealed: boolean): Segment {
  const payloads = ['a', 'two rows', 'a frame of some length that is no multiple of eight', '0123456789abcdef', 'last'];
  return writeSegment(
    directory,
    payloads.map((text) => Buffer.from(text)),
    sealed,
  );
}

interface Expected {
  readonly payloads: readonly Buffer[];
  readonly damages: readonly { offset: number; bytes: number }[];
  readonly tear: { offset: number; bytes: number } | undefined;
}

/**
 * The rule in words (docs/wal-format.md), told again from the frames that were written and which of them are whole: a
 * stretch of bad frames is damage where a whole frame behind it was written when the file was synced beyond it; else
 * everything from there on is a tear.
 */
export function expectedOf({ frames }: Segment, size: number, whole: (frame: Frame) => boolean): Expected {
  const payloads: Buffer[] = [];
  const damages: { offset: number; bytes: number }[] = [];
  for (let i = 0; i < frames.length;) {
    const frame = frames[i];
    if (frame === undefined || frame.start >= size) break;
    if (whole(frame)) {
      if (frame.rows > 0) payloads.push(frame.payload);
      i += 1;
      continue;
    }
    const behind = frames.slice(i + 1);
    const next = behind.find(whole);
    if (next === undefined || !behind.some((later) => whole(later) && later.synced > frame.start)) {
      return { payloads, damages, tear: { offset: frame.start, bytes: size - frame.start } };
    }
    damages.push({ offset: frame.start, bytes: next.start - frame.start });
    i = frames.indexOf(next);
  }
  return { payloads, damages, tear: undefined };
}

interface Scanned {
  readonly scan: SegmentScan;
  readonly payloads: readonly Buffer[];
}

export function scanBytes(file: string, bytes: Uint8Array): Scanned {
  // Over what is there, then cut: emptying a file first makes some file systems write it out at once.
  writeFileSync(file, bytes, { flag: existsSync(file) ? 'r+' : 'w' });
  truncateSync(file, bytes.length);
  const payloads: Buffer[] = [];
  const scan = scanSegment(file, (payload) => payloads.push(Buffer.from(payload)));
  return { scan, payloads };
}

export function assertScan({ scan, payloads }: Scanned, expected: Expected, what: string): void {
  if (scan.kind !== 'segment') assert.fail(`${what}: ${scan.kind}`);
  assert.deepEqual(payloads, expected.payloads, what);
  assert.deepEqual(scan.damages, expected.damages, what);
  assert.deepEqual(scan.tear, expected.tear, what);
  assert.equal(scan.frames.length, expected.payloads.length, what);
  assert.equal(
    scan.bytes,
    expected.payloads.reduce((sum, { length }) => sum + length, 0),
    what,
  );
}

export function scratch(t: TestContext): { directory: string; file: string } {
  const directory = temporaryDirectory(t);
  return { directory, file: join(directory, segmentName(1)) };
}
