const ZERO = 0x30;
const COUNT_MAX_BYTES = 16;

/**
 * JSON text in UTF-8, put together from pieces that are encoded already. A string of that many pieces is a tree of them until somebody wants
 * its bytes, and making those took three times as long as putting it together.
 */
export class JsonBytes {
  #bytes: Uint8Array<ArrayBuffer>;
  #at = 0;

  /** `room`: how many bytes it will be, about. */
  constructor(room: number) {
    this.#bytes = new Uint8Array(room);
  }

  add(piece: Uint8Array): void {
    this.#makeRoom(piece.length);
    this.#bytes.set(piece, this.#at);
    this.#at += piece.length;
  }

  /** The digits of a whole number from 0 to 2^53 - 1. */
  addCount(value: number): void {
    this.#makeRoom(COUNT_MAX_BYTES);
    const bytes = this.#bytes;
    let end = this.#at + 1;
    for (let bound = 10; value >= bound; bound *= 10) end += 1;
    this.#at = end;
    let rest = value;
    // What is left fits into 32 bits after a few digits, where a division is a multiplication.
    for (; rest > 0xffffffff; rest = Math.floor(rest / 10)) bytes[(end -= 1)] = ZERO + (rest % 10);
    let small = rest >>> 0;
    do {
      const tenth = (small / 10) >>> 0;
      bytes[(end -= 1)] = ZERO + small - tenth * 10;
      small = tenth;
    } while (small > 0);
  }

  /** A copy of what was added, alone in its memory; what is added next begins another text. */
  take(): Uint8Array<ArrayBuffer> {
    const text = this.#bytes.slice(0, this.#at);
    this.#at = 0;
    return text;
  }

  #makeRoom(more: number): void {
    if (this.#at + more <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#at + more));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}
