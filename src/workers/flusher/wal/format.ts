import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * The bytes of the log (docs/wal-format.md draws them).
 *
 * A segment file is a 64-byte head and frames. A frame is a 72-byte head and its payload, RowBinary rows one behind the
 * other, padded with zeros to 8 bytes. Numbers are little-endian. The CRC of a frame covers its head up to the CRC, and
 * the payload, and starts from the segment's id: a frame of another segment, or of this file's former life, never passes.
 */

const SEGMENT_MAGIC = 0x47455350; // "PSEG"
const FRAME_MAGIC = 0x4d524650; // "PFRM"
/** Of the segment's layout. A reader refuses what is newer than it knows. */
export const WAL_FORMAT_VERSION = 1;
/** Of the columns in a row (encode-event.ts). */
export const ROW_FORMAT_VERSION = 1;

export const SEGMENT_HEAD_BYTES = 64;
export const FRAME_HEAD_BYTES = 72;
/** Where the segment's id stands in a frame's head. */
export const FRAME_ID_AT = 8;
const SEGMENT_CRC_AT = 56;
const FRAME_CRC_AT = 64;

export interface SegmentHead {
  readonly version: number;
  readonly rowFormat: number;
  readonly segmentId: bigint;
  readonly epoch: bigint;
  readonly ordinal: number;
  /** Unix ms. */
  readonly createdAtMs: number;
  /** The file was another segment's before: behind the end stand remains of that. */
  readonly recycled: boolean;
}

export interface FrameHead {
  readonly segmentId: bigint;
  readonly epoch: bigint;
  /** Where this frame's head stands in the file. */
  readonly offset: number;
  /** Sequence number of the first row, within the epoch. */
  readonly firstSequence: bigint;
  /** Bytes of the file that were known to be synced when this frame was written. */
  readonly syncedBytes: number;
  /** Unix ms. */
  readonly committedAtMs: number;
  readonly rows: number;
  /** Payload bytes, padding not counted. */
  readonly length: number;
}

export type HeadFault = 'not a segment' | 'checksum' | { readonly newerVersion: number };

export function padding(length: number): number {
  return -length & 7;
}

/** Bytes of a frame in the file: head, payload, padding. */
export function frameBytes(length: number): number {
  return FRAME_HEAD_BYTES + length + padding(length);
}

export function encodeSegmentHead(head: SegmentHead): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEAD_BYTES);
  bytes.writeUInt32LE(SEGMENT_MAGIC, 0);
  bytes.writeUInt16LE(head.version, 4);
  bytes.writeUInt16LE(head.rowFormat, 6);
  bytes.writeBigUInt64LE(head.segmentId, 8);
  bytes.writeBigUInt64LE(head.epoch, 16);
  bytes.writeBigUInt64LE(BigInt(head.ordinal), 24);
  bytes.writeDoubleLE(head.createdAtMs, 32);
  bytes.writeUInt8(head.recycled ? 1 : 0, 40);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, SEGMENT_CRC_AT)), SEGMENT_CRC_AT);
  return bytes;
}

/** Reads the head of a segment file; a fault says why it is none, or that a newer release wrote it. */
export function decodeSegmentHead(bytes: Buffer): SegmentHead | HeadFault {
  if (bytes.length < SEGMENT_HEAD_BYTES || bytes.readUInt32LE(0) !== SEGMENT_MAGIC) return 'not a segment';
  if (crc32(bytes.subarray(0, SEGMENT_CRC_AT)) !== bytes.readUInt32LE(SEGMENT_CRC_AT)) return 'checksum';
  const version = bytes.readUInt16LE(4);
  if (version > WAL_FORMAT_VERSION) return { newerVersion: version };
  const rowFormat = bytes.readUInt16LE(6);
  if (rowFormat > ROW_FORMAT_VERSION) return { newerVersion: rowFormat };
  return {
    version,
    rowFormat,
    segmentId: bytes.readBigUInt64LE(8),
    epoch: bytes.readBigUInt64LE(16),
    ordinal: Number(bytes.readBigUInt64LE(24)),
    createdAtMs: bytes.readDoubleLE(32),
    recycled: bytes.readUInt8(40) === 1,
  };
}

export function crcSeed(segmentId: bigint): number {
  const id = Buffer.alloc(8);
  id.writeBigUInt64LE(segmentId);
  return crc32(id);
}

/** Writes a frame's head over `bytes` (FRAME_HEAD_BYTES of it), its CRC computed over the `payload` pieces. */
export function encodeFrameHead(bytes: Buffer, head: FrameHead, seed: number, payload: readonly Uint8Array[]): void {
  bytes.writeUInt32LE(FRAME_MAGIC, 0);
  bytes.writeUInt32LE(head.rows, 4);
  bytes.writeBigUInt64LE(head.segmentId, 8);
  bytes.writeBigUInt64LE(head.epoch, 16);
  bytes.writeBigUInt64LE(head.firstSequence, 24);
  bytes.writeDoubleLE(head.committedAtMs, 32);
  bytes.writeUInt32LE(head.offset, 40);
  bytes.writeUInt32LE(head.syncedBytes, 44);
  bytes.writeUInt32LE(head.length, 48);
  bytes.fill(0, 52, FRAME_HEAD_BYTES);
  let crc = crc32(bytes.subarray(0, FRAME_CRC_AT), seed);
  for (const piece of payload) crc = crc32(piece, crc);
  bytes.writeUInt32LE(crc, FRAME_CRC_AT);
}

/**
 * The head at the start of `bytes`, if it can be one of this segment's at `offset`, `remaining` bytes before the file's end.
 * The CRC is not looked at: `frameIsIntact` does, when the payload is there.
 */
export function decodeFrameHead(
  bytes: Buffer,
  segmentId: bigint,
  offset: number,
  remaining: number,
): FrameHead | undefined {
  if (bytes.length < FRAME_HEAD_BYTES || bytes.readUInt32LE(0) !== FRAME_MAGIC) return undefined;
  if (bytes.readBigUInt64LE(8) !== segmentId || bytes.readUInt32LE(40) !== offset) return undefined;
  const length = bytes.readUInt32LE(48);
  if (frameBytes(length) > remaining) return undefined;
  return {
    segmentId,
    epoch: bytes.readBigUInt64LE(16),
    offset,
    firstSequence: bytes.readBigUInt64LE(24),
    syncedBytes: bytes.readUInt32LE(44),
    committedAtMs: bytes.readDoubleLE(32),
    rows: bytes.readUInt32LE(4),
    length,
  };
}

/** Whether head and payload are what was written: `frame` starts at the frame's head and reaches to its end at least. */
export function frameIsIntact(frame: Buffer, head: FrameHead, seed: number): boolean {
  const headCrc = crc32(frame.subarray(0, FRAME_CRC_AT), seed);
  const payload = frame.subarray(FRAME_HEAD_BYTES, FRAME_HEAD_BYTES + head.length);
  return crc32(payload, headCrc) === frame.readUInt32LE(FRAME_CRC_AT);
}

/**
 * Whether the bytes at a place where a frame should begin were meant to be one of this segment's, though they are none now:
 * its id is there but for a few bits. What a recycled file held in its former life has another id, some 32 bits away.
 */
export function resemblesFrame(bytes: Buffer, segmentId: bigint): boolean {
  if (bytes.length < FRAME_HEAD_BYTES) return false;
  let differing = 0;
  for (let bits = bytes.readBigUInt64LE(8) ^ segmentId; bits !== 0n; bits &= bits - 1n) differing += 1;
  return differing <= 8;
}

const NAME = /^(\d{16})\.wal$/;
const SPARE_SUFFIX = '.spare';

export function segmentName(ordinal: number): string {
  return `${String(ordinal).padStart(16, '0')}.wal`;
}

/**
 * A name for a confirmed segment's file that waits to be written anew. Ordinals begin again when a log was empty at a start,
 * and a rename replaces what has the name: so no two spares ever have the same.
 */
export function spareName(): string {
  return `${randomBytes(8).toString('hex')}${SPARE_SUFFIX}`;
}

export function isSpare(name: string): boolean {
  return name.endsWith(SPARE_SUFFIX);
}

/** The ordinal in a segment's file name; undefined for any other file. */
export function ordinalOf(name: string): number | undefined {
  const match = NAME.exec(name);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}
