/**
 * A Bloom filter of 128-bit hashes: of a hash that was not added it mostly says so, of one that was it never does. Its bits are
 * words of the hash itself, which is as good as random; who finds ids that meet in it makes a question more necessary, no more.
 */

const WORD_BITS = 32;
/** With these and four words of the hash, one in 80 that were not added is taken for one that was. */
const BITS_PER_HASH = 10;

export class HashFilter {
  /** Hashes that it has room for. */
  readonly capacity: number;
  readonly #mask: number;
  readonly #bits: Uint32Array;
  #size = 0;

  /** With room for at least so many hashes. */
  constructor(hashes: number) {
    const bits = 2 ** Math.ceil(Math.log2(Math.max(hashes * BITS_PER_HASH, WORD_BITS)));
    this.capacity = Math.floor(bits / BITS_PER_HASH);
    this.#mask = bits - 1;
    this.#bits = new Uint32Array(bits / WORD_BITS);
  }

  get bytes(): number {
    return this.#bits.byteLength;
  }

  /** How many were added. */
  get size(): number {
    return this.#size;
  }

  add(k0: number, k1: number, k2: number, k3: number): void {
    this.#set(k0);
    this.#set(k1);
    this.#set(k2);
    this.#set(k3);
    this.#size += 1;
  }

  /** False: it was not added. */
  mayHave(k0: number, k1: number, k2: number, k3: number): boolean {
    return this.#isSet(k0) && this.#isSet(k1) && this.#isSet(k2) && this.#isSet(k3);
  }

  #set(word: number): void {
    const bit = word & this.#mask;
    this.#bits[bit >>> 5] = (this.#bits[bit >>> 5] ?? 0) | (1 << (bit & 31));
  }

  #isSet(word: number): boolean {
    const bit = word & this.#mask;
    return ((this.#bits[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
  }
}
