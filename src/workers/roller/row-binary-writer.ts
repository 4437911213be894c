/** RowBinary of the few kinds of value that the roller sends, into one buffer that grows and is kept. */
export class RowBinaryWriter {
  #buffer = Buffer.allocUnsafeSlow(64 * 1024);
  #at = 0;

  /** To be written anew. */
  clear(): void {
    this.#at = 0;
  }

  string(text: string): void {
    const length = Buffer.byteLength(text);
    this.length(length);
    this.#reserve(length);
    this.#at += this.#buffer.write(text, this.#at);
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

  /** An array whose elements are written later, with `view`: where they go. */
  array(count: number, elementBytes: number): number {
    this.length(count);
    const at = this.#at;
    this.#reserve(count * elementBytes);
    this.#at += count * elementBytes;
    return at;
  }

  /** What was written, to be filled in. */
  view(): DataView {
    return new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#at);
  }

  /** What was written; valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  /** Of a string or an array, before its elements. */
  length(value: number): void {
    this.#reserve(5);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128))
      this.#at = this.#buffer.writeUInt8((rest & 0x7f) | 0x80, this.#at);
    this.#at = this.#buffer.writeUInt8(rest, this.#at);
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#at + bytes));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}
