/** RowBinary of the few kinds of value that the roller sends, into one buffer that grows. */
export class RowBinaryWriter {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #at = 0;

  string(text: string): void {
    const length = Buffer.byteLength(text);
    this.#varint(length);
    this.#reserve(length);
    this.#at += this.#buffer.write(text, this.#at);
  }

  uint8(value: number): void {
    this.#reserve(1);
    this.#at = this.#buffer.writeUInt8(value, this.#at);
  }

  uint32(value: number): void {
    this.#reserve(4);
    this.#at = this.#buffer.writeUInt32LE(value, this.#at);
  }

  int64(value: number): void {
    this.#reserve(8);
    this.#int64(value);
  }

  int64Array(values: readonly number[]): void {
    this.#varint(values.length);
    this.#reserve(values.length * 8);
    for (const value of values) this.#int64(value);
  }

  /** Array(UInt32) of the lower words of all values. */
  lowerWordArray(lists: readonly (readonly number[])[]): void {
    const count = lists.reduce((sum, values) => sum + values.length, 0);
    this.#varint(count);
    this.#reserve(count * 4);
    for (const values of lists) {
      for (const value of values) this.#at = this.#buffer.writeUInt32LE(value >>> 0, this.#at);
    }
  }

  /** What was written; valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  /** Where there is room. */
  #int64(value: number): void {
    this.#buffer.writeUInt32LE(value >>> 0, this.#at);
    this.#at = this.#buffer.writeInt32LE(Math.floor(value / 2 ** 32), this.#at + 4);
  }

  #varint(value: number): void {
    this.#reserve(5);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128))
      this.#at = this.#buffer.writeUInt8((rest & 0x7f) | 0x80, this.#at);
    this.#at = this.#buffer.writeUInt8(rest, this.#at);
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + bytes));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}
