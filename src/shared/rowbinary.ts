/**
 * ClickHouse's RowBinary, as far as `events` needs it. A `Sink` is a place in memory; the functions write one value each
 * and move on. They do not check for room or range: who calls them has (ROW_MAX_BYTES, validate.ts).
 * Format: https://clickhouse.com/docs/interfaces/formats/RowBinary
 */
export class Sink implements Bytes {
  readonly buffer: Buffer;
  readonly view: DataView;
  /** Where the next byte goes. */
  at = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  }
}

/** Memory with the two ways to look at it. */
export interface Bytes {
  readonly buffer: Buffer;
  /** Of exactly the buffer's bytes. */
  readonly view: DataView;
}

/** Longest string that is written character by character; beyond it the call into `utf8Write` pays. */
const SHORT_STRING = 48;
/** Most bytes that are copied four by four; beyond it the call into `copy` pays. */
const SHORT_COPY = 256;

/** Unsigned LEB128, for values below 2^31. */
function writeVarint(sink: Sink, value: number): void {
  const { buffer } = sink;
  let rest = value;
  while (rest >= 0x80) {
    buffer[sink.at] = (rest & 0x7f) | 0x80;
    sink.at += 1;
    rest >>>= 7;
  }
  buffer[sink.at] = rest;
  sink.at += 1;
}

/** String: length in bytes, then UTF-8. */
export function writeString(sink: Sink, value: string): void {
  if (value.length <= SHORT_STRING && writeAscii(sink.buffer, sink.at + 1, value)) {
    sink.buffer[sink.at] = value.length;
    sink.at += 1 + value.length;
    return;
  }
  const length = Buffer.byteLength(value);
  writeVarint(sink, length);
  sink.buffer.write(value, sink.at, length, 'utf8');
  sink.at += length;
}

/** Writes the characters of a short ASCII string at `at`; false where one is not ASCII. */
function writeAscii(buffer: Buffer, at: number, value: string): boolean {
  const { length } = value;
  for (let i = 0; i < length; i += 1) {
    const code = value.charCodeAt(i);
    if (code > 0x7f) return false;
    buffer[at + i] = code;
  }
  return true;
}

/** Length in bytes as u32, then UTF-8: the form that ids are derived from, not one of RowBinary's. */
export function writeLongString(sink: Sink, value: string): void {
  const { buffer, at } = sink;
  const isShort = value.length <= SHORT_STRING && writeAscii(buffer, at + 4, value);
  const length = isShort ? value.length : buffer.write(value, at + 4, 'utf8');
  sink.view.setUint32(at, length, true);
  sink.at = at + 4 + length;
}

/** String from all of some bytes that are already UTF-8. */
export function writeBytes(sink: Sink, bytes: Uint8Array): void {
  writeVarint(sink, bytes.length);
  sink.buffer.set(bytes, sink.at);
  sink.at += bytes.length;
}

/** Bytes as they are. */
export function copyBytes(sink: Sink, bytes: Bytes, start: number, end: number): void {
  const { at } = sink;
  const length = end - start;
  sink.at = at + length;
  if (length > SHORT_COPY) {
    bytes.buffer.copy(sink.buffer, at, start, end);
  } else if (length < 4) {
    for (let i = 0; i < length; i += 1) sink.buffer[at + i] = bytes.buffer[start + i] ?? 0;
  } else {
    const from = bytes.view;
    const to = sink.view;
    const last = length - 4;
    for (let i = 0; i < last; i += 4) to.setInt32(at + i, from.getInt32(start + i, true), true);
    // The last four overlap those before: nothing beyond the string is read or written.
    to.setInt32(at + last, from.getInt32(start + last, true), true);
  }
}

export function writeStringArray(sink: Sink, values: readonly string[]): void {
  writeVarint(sink, values.length);
  for (const value of values) writeString(sink, value);
}

/** UUID from its 16 bytes in the order of its text: ClickHouse keeps two little-endian halves, the first half first. */
export function writeUuid(sink: Sink, uuid: Uint8Array): void {
  const { buffer, at } = sink;
  for (let i = 0; i < 8; i += 1) {
    buffer[at + i] = uuid[7 - i] ?? 0;
    buffer[at + 8 + i] = uuid[15 - i] ?? 0;
  }
  sink.at = at + 16;
}

/** Int64 (also DateTime64) from a whole number within ±2^53. */
export function writeInt64(sink: Sink, value: number): void {
  sink.view.setUint32(sink.at, value >>> 0, true);
  sink.view.setInt32(sink.at + 4, Math.floor(value / 2 ** 32), true);
  sink.at += 8;
}
