import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { PIECE_BYTES, type PieceSource, type TakeBuffer } from './piece-stream.js';
import { walkRows } from './rows.js';
import { type FrameRef, scanSegment, type SegmentScan } from './wal/segment-reader.js';

/**
 * What one INSERT sends: the rows of a segment, or a part of them. Its token is a hash of its row bytes: equal bytes, equal
 * token, and nothing need be remembered.
 */
export interface Batch {
  readonly token: string;
  readonly epoch: bigint;
  /** Sequence numbers of its rows, in order, neighbours joined. */
  readonly ranges: readonly SequenceRange[];
  readonly rows: number;
  readonly bytes: number;
  /** Hours since 1970 in which its events happened; undefined where they are more than HOURS_MAX. */
  readonly hours: readonly number[] | undefined;
  /** When its events were received, first and last, in Unix µs. */
  readonly receivedFromUs: number;
  readonly receivedToUs: number;
  /** The row bytes, piece by piece; can be read again. */
  readonly read: PieceSource;
}

export interface SequenceRange {
  readonly first: bigint;
  readonly rows: number;
}

export type IntactSegment = SegmentScan & { readonly kind: 'segment' };

const HOUR_MS = 3_600_000;
/** Half a year of hours: beyond it, which they were is of no use to anyone. */
const HOURS_MAX = 4_096;

/** When the events of a batch happened and were received. */
class Times {
  readonly #hours = new Set<number>();
  #receivedFromUs = Infinity;
  #receivedToUs = 0;

  add(timestampMs: number, receivedAtUs: number): void {
    if (this.#hours.size <= HOURS_MAX) this.#hours.add(Math.floor(timestampMs / HOUR_MS));
    if (receivedAtUs < this.#receivedFromUs) this.#receivedFromUs = receivedAtUs;
    if (receivedAtUs > this.#receivedToUs) this.#receivedToUs = receivedAtUs;
  }

  get(): Pick<Batch, 'hours' | 'receivedFromUs' | 'receivedToUs'> {
    const hours = this.#hours.size > HOURS_MAX ? undefined : [...this.#hours].toSorted((a, b) => a - b);
    return { hours, receivedFromUs: this.#receivedFromUs, receivedToUs: this.#receivedToUs };
  }
}

/** Scans a segment's file; the batch of all its rows is there where it has any. */
export function readSegment(file: string): { scan: SegmentScan; batch: Batch | undefined } {
  const hash = createHash('sha256');
  const times = new Times();
  const scan = scanSegment(file, (payload) => {
    hash.update(payload);
    walkRows(payload, (_end, timestampMs, receivedAtUs) => times.add(timestampMs, receivedAtUs));
  });
  if (scan.kind !== 'segment' || scan.rows === 0) return { scan, batch: undefined };
  const { head, frames, rows, bytes } = scan;
  const batch: Batch = {
    token: hash.digest('hex'),
    epoch: head.epoch,
    ranges: joinRanges(frames.map((frame) => ({ first: frame.firstSequence, rows: frame.rows }))),
    rows,
    bytes,
    ...times.get(),
    read: (take) => readFrames(file, frames, take),
  };
  return { scan, batch };
}

/** All rows of a segment in memory, to be sent in parts: for the rare segment that ClickHouse does not take as it is. */
export class SegmentRows {
  readonly #bytes: Buffer;
  readonly #epoch: bigint;
  /** Where each row starts, and behind the last one where it ends. */
  readonly #starts: Uint32Array;
  readonly #timestampsMs: Float64Array;
  readonly #receivedAtUs: Float64Array;
  readonly #sequences: BigUint64Array;
  readonly count: number;

  constructor(file: string, { head, rows, bytes, frames }: IntactSegment) {
    this.#bytes = Buffer.allocUnsafe(bytes);
    this.#epoch = head.epoch;
    this.#starts = new Uint32Array(rows + 1);
    this.#timestampsMs = new Float64Array(rows);
    this.#receivedAtUs = new Float64Array(rows);
    this.#sequences = new BigUint64Array(rows);
    this.count = rows;
    let at = 0;
    let row = 0;
    let frame = 0;
    scanSegment(file, (payload) => {
      const start = at;
      let sequence = frames[frame]?.firstSequence ?? 0n;
      payload.copy(this.#bytes, start);
      walkRows(payload, (end, timestampMs, receivedAtUs) => {
        this.#timestampsMs[row] = timestampMs;
        this.#receivedAtUs[row] = receivedAtUs;
        this.#sequences[row] = sequence;
        row += 1;
        sequence += 1n;
        at = start + end;
        this.#starts[row] = at;
      });
      frame += 1;
    });
  }

  sequenceOf(row: number): bigint {
    return this.#sequences[row] ?? 0n;
  }

  /** The bytes of the rows from `from` up to `to`, not included. */
  bytesOf(from: number, to: number): Buffer {
    return this.#bytes.subarray(this.#starts[from], this.#starts[to]);
  }

  /** The batch of these rows, ascending. */
  batch(rows: readonly number[]): Batch {
    const hash = createHash('sha256');
    const times = new Times();
    const pieces: Buffer[] = [];
    const ranges: SequenceRange[] = [];
    let bytes = 0;
    for (let at = 0; at < rows.length;) {
      const from = rows[at] ?? 0;
      let to = from;
      for (; rows[at] === to; at += 1) {
        times.add(this.#timestampsMs[to] ?? 0, this.#receivedAtUs[to] ?? 0);
        ranges.push({ first: this.sequenceOf(to), rows: 1 });
        to += 1;
      }
      const piece = this.bytesOf(from, to);
      hash.update(piece);
      pieces.push(piece);
      bytes += piece.length;
    }
    return {
      token: hash.digest('hex'),
      epoch: this.#epoch,
      ranges: joinRanges(ranges),
      rows: rows.length,
      bytes,
      ...times.get(),
      read: () => pieces,
    };
  }
}

/** A batch of rows that are at hand, in the order of their sequence numbers. */
export function batchOf(epoch: bigint, rows: readonly { readonly sequence: bigint; readonly bytes: Buffer }[]): Batch {
  const bytes = Buffer.concat(rows.map((row) => row.bytes));
  const times = new Times();
  walkRows(bytes, (_end, timestampMs, receivedAtUs) => times.add(timestampMs, receivedAtUs));
  return {
    token: createHash('sha256').update(bytes).digest('hex'),
    epoch,
    ranges: joinRanges(rows.map(({ sequence }) => ({ first: sequence, rows: 1 }))),
    rows: rows.length,
    bytes: bytes.length,
    ...times.get(),
    read: () => [bytes],
  };
}

/** Ranges in order, each as long as it can be. */
function joinRanges(ranges: readonly SequenceRange[]): SequenceRange[] {
  const joined: SequenceRange[] = [];
  for (const range of ranges) {
    const last = joined.at(-1);
    if (last !== undefined && last.first + BigInt(last.rows) === range.first) {
      joined[joined.length - 1] = { first: last.first, rows: last.rows + range.rows };
    } else {
      joined.push(range);
    }
  }
  return joined;
}

/** The rows of frames: of short ones many in a piece, of a long one a piece at a time. */
async function* readFrames(file: string, frames: readonly FrameRef[], take: TakeBuffer): AsyncGenerator<Buffer> {
  const handle = await fs.promises.open(file, 'r');
  try {
    for (let index = 0; index < frames.length;) {
      const { start, end, next } = neighbours(frames, index);
      if (next === index + 1) {
        for (let at = start; at < end; at += PIECE_BYTES)
          yield await readAll(handle, at, take().subarray(0, Math.min(PIECE_BYTES, end - at)));
      } else {
        const bytes = await readAll(handle, start, take().subarray(0, end - start));
        yield withoutHeads(bytes, frames.slice(index, next));
      }
      index = next;
    }
  } finally {
    await handle.close();
  }
}

/** The stretch of the file from the payload of a frame on: as many frames as are in one piece, or the one that is longer. */
function neighbours(frames: readonly FrameRef[], index: number): { start: number; end: number; next: number } {
  const start = frames[index]?.payloadOffset ?? 0;
  let end = start + (frames[index]?.length ?? 0);
  let next = index + 1;
  for (; next < frames.length; next += 1) {
    const frame = frames[next];
    if (frame === undefined || frame.payloadOffset + frame.length - start > PIECE_BYTES) break;
    end = frame.payloadOffset + frame.length;
  }
  return { start, end, next };
}

/** The payloads of these frames, moved together in `bytes`, which begins with the first of them. */
function withoutHeads(bytes: Buffer, frames: readonly FrameRef[]): Buffer {
  const start = frames[0]?.payloadOffset ?? 0;
  let length = 0;
  for (const frame of frames) {
    const at = frame.payloadOffset - start;
    bytes.copyWithin(length, at, at + frame.length);
    length += frame.length;
  }
  return bytes.subarray(0, length);
}

/** Fills `bytes` from the file. */
async function readAll(handle: fs.promises.FileHandle, at: number, bytes: Buffer): Promise<Buffer> {
  for (let got = 0; got < bytes.length;) {
    const { bytesRead } = await handle.read(bytes, got, bytes.length - got, at + got);
    if (bytesRead === 0) throw new Error(`the segment ended at byte ${at + got}, inside a frame that was intact`);
    got += bytesRead;
  }
  return bytes;
}
