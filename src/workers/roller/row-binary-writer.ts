/** RowBinary of the few kinds of value that the roller sends, into one buffer that grows and is kept. */
export class RowBinaryWriter {
  #buffer = Buffer.allocUnsafeSlow(64 * 1024);
  #at = 0;

  /** Where the next value goes. */
  get position(): number {
    return this.#at;
  }

  /** To be written anew. */
  clear(): void {
    this.#at = 0;
  }

  /** What `textBytes` has made, or any other bytes. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  uint8(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#at] = value;
    this.#at += 1;
  }

  uint32(value: number): void {
    this.#reserve(4);
    this.#at = this.#buffer.writeUInt32LE(value, this.#at);
  }

  int64(value: number): void {
    this.#reserve(8);
    this.#buffer.writeUInt32LE(value >>> 0, this.#at);
    this.#at = this.#buffer.writeInt32LE(Math.floor(value / 2 ** 32), this.#at + 4);
  }

  /** Of a string or an array, before its elements. */
  length(value: number): void {
    this.#reserve(5);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) {
      this.#buffer[this.#at] = (rest & 0x7f) | 0x80;
      this.#at += 1;
    }
    this.#buffer[this.#at] = rest;
    this.#at += 1;
  }

  /** Room for so many bytes, to be filled in at once: a view that begins there. */
  room(bytes: number): DataView {
    this.#reserve(bytes);
    const view = new DataView(this.#buffer.buffer, this.#buffer.byteOffset + this.#at, bytes);
    this.#at += bytes;
    return view;
  }

  /** What was written; valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#at + bytes));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}

/** A string in RowBinary, to be written many times. */
export function textBytes(text: string): Buffer {
  const writer = new RowBinaryWriter();
  const bytes = Buffer.from(text);
  writer.length(bytes.length);
  writer.raw(bytes);
  return Buffer.from(writer.bytes());
}
