import type { RowBinaryWriter } from './row-binary-writer.js';

/**
 * Sets of users as ClickHouse keeps them: the state of groupBitmap(UInt32), written here so that a commit need not make it of lists in
 * SQL. Few numbers are a list, more a roaring bitmap in its portable form (https://github.com/RoaringBitmap/RoaringFormatSpec,
 * src/AggregateFunctions/AggregateFunctionGroupBitmapData.h of ClickHouse). Reading it back: workers/cells.
 */

/** Above, it must not be a list. */
const LIST_MAX = 32;
/** A piece of 2^16 numbers with more than these is a bitmap. */
const ARRAY_MAX = 4_096;
const PIECE_BYTES = 8_192;
const COOKIE_WITHOUT_RUNS = 12_346;

/** Sorts the first `count` of `numbers` and leaves each once, at its beginning; returns how many. */
export function sortUnique(numbers: Uint32Array, count: number): number {
  if (count < 2) return count;
  numbers.subarray(0, count).sort();
  let to = 1;
  for (let i = 1; i < count; i += 1) {
    const number = numbers[i] ?? 0;
    if (number === numbers[to - 1]) continue;
    numbers[to] = number;
    to += 1;
  }
  return to;
}

/** Writes the set of the first `count` of `numbers`, which are sorted, each there once. */
export function writeBitmapState(writer: RowBinaryWriter, numbers: Uint32Array, count: number): void {
  if (count <= LIST_MAX) {
    writer.uint8(0);
    writer.length(count);
    for (let i = 0; i < count; i += 1) writer.uint32(numbers[i] ?? 0);
    return;
  }
  const ends = endsOfPieces(numbers, count);
  let bytes = 8 + 8 * ends.length;
  for (const [piece, end] of ends.entries()) bytes += bytesOfPiece(end - (ends[piece - 1] ?? 0));
  writer.uint8(1);
  writer.length(bytes);
  const view = writer.room(bytes);
  view.setUint32(0, COOKIE_WITHOUT_RUNS, true);
  view.setUint32(4, ends.length, true);
  let dataAt = 8 + 8 * ends.length;
  for (const [piece, end] of ends.entries()) {
    const from = ends[piece - 1] ?? 0;
    view.setUint16(8 + 4 * piece, (numbers[from] ?? 0) >>> 16, true);
    view.setUint16(10 + 4 * piece, end - from - 1, true);
    view.setUint32(8 + 4 * ends.length + 4 * piece, dataAt, true);
    if (end - from > ARRAY_MAX) writeBits(view, dataAt, numbers, from, end);
    else for (let i = from; i < end; i += 1) view.setUint16(dataAt + 2 * (i - from), (numbers[i] ?? 0) & 0xffff, true);
    dataAt += bytesOfPiece(end - from);
  }
}

/** Behind the last number of each piece. */
function endsOfPieces(numbers: Uint32Array, count: number): number[] {
  const ends: number[] = [];
  for (let i = 1; i < count; i += 1) if ((numbers[i] ?? 0) >>> 16 !== (numbers[i - 1] ?? 0) >>> 16) ends.push(i);
  ends.push(count);
  return ends;
}

function bytesOfPiece(count: number): number {
  return count > ARRAY_MAX ? PIECE_BYTES : 2 * count;
}

function writeBits(view: DataView, at: number, numbers: Uint32Array, from: number, end: number): void {
  for (let byte = 0; byte < PIECE_BYTES; byte += 4) view.setUint32(at + byte, 0, true);
  for (let i = from; i < end; i += 1) {
    const low = (numbers[i] ?? 0) & 0xffff;
    const byte = at + (low >>> 3);
    view.setUint8(byte, view.getUint8(byte) | (1 << (low & 7)));
  }
}
