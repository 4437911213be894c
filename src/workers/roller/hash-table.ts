import { randomInt } from 'node:crypto';

/**
 * Open addressing over 128-bit keys in flat arrays: millions of entries without an object each. A key is four 32-bit words,
 * compared in full. Where it is looked for depends on multipliers of this process, so that keys that a producer chooses
 * cannot be made to crowd one place.
 */

const WORDS = 4;
const SLOTS_MIN = 1 << 12;
/** Beyond this share of slots in use, probing gets long. */
const LOAD_MAX = 0.6;
const NOT_FOUND = -1;
const [M0, M1, M2, M3] = [oddNumber(), oddNumber(), oddNumber(), oddNumber()];

export class HashTable {
  #slots = SLOTS_MIN;
  #shift = 32 - Math.log2(SLOTS_MIN);
  #keys = new Uint32Array(SLOTS_MIN * WORDS);
  #values = new Uint32Array(SLOTS_MIN);
  /** 0: the slot is free. */
  #tags = new Uint16Array(SLOTS_MIN);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Bytes of its arrays. */
  get bytes(): number {
    return this.#slots * (WORDS * 4 + 4 + 2);
  }

  /** The slot of a key, or a negative number. */
  find(k0: number, k1: number, k2: number, k3: number): number {
    const keys = this.#keys;
    const mask = this.#slots - 1;
    for (let slot = place(k0, k1, k2, k3) >>> this.#shift; this.#tags[slot] !== 0; slot = (slot + 1) & mask) {
      const at = slot * WORDS;
      if (keys[at] === k0 && keys[at + 1] === k1 && keys[at + 2] === k2 && keys[at + 3] === k3) return slot;
    }
    return NOT_FOUND;
  }

  valueAt(slot: number): number {
    return this.#values[slot] ?? 0;
  }

  setValue(slot: number, value: number): void {
    this.#values[slot] = value;
  }

  /** As given to `add`. */
  tagAt(slot: number): number {
    return (this.#tags[slot] ?? 0) - 1;
  }

  /** Adds a key that is not there. `tag` is below 65 535. Words are unsigned. */
  add(k0: number, k1: number, k2: number, k3: number, value: number, tag: number): void {
    if (this.#size >= this.#slots * LOAD_MAX) this.#grow();
    this.#put(k0, k1, k2, k3, value, tag + 1);
    this.#size += 1;
  }

  #put(k0: number, k1: number, k2: number, k3: number, value: number, tag: number): void {
    const mask = this.#slots - 1;
    let slot = place(k0, k1, k2, k3) >>> this.#shift;
    while (this.#tags[slot] !== 0) slot = (slot + 1) & mask;
    const at = slot * WORDS;
    this.#keys[at] = k0;
    this.#keys[at + 1] = k1;
    this.#keys[at + 2] = k2;
    this.#keys[at + 3] = k3;
    this.#values[slot] = value;
    this.#tags[slot] = tag;
  }

  #grow(): void {
    const [keys, values, tags] = [this.#keys, this.#values, this.#tags];
    this.#slots *= 2;
    this.#shift -= 1;
    this.#keys = new Uint32Array(this.#slots * WORDS);
    this.#values = new Uint32Array(this.#slots);
    this.#tags = new Uint16Array(this.#slots);
    for (const [slot, tag] of tags.entries()) {
      if (tag === 0) continue;
      const at = slot * WORDS;
      this.#put(keys[at] ?? 0, keys[at + 1] ?? 0, keys[at + 2] ?? 0, keys[at + 3] ?? 0, values[slot] ?? 0, tag);
    }
  }
}

/**
 * A bounded memory of what was met last: two tables, of which the older is dropped when the younger is full. What was added or
 * found in generation g is remembered at least until generation g + 2 begins.
 */
export class Generations {
  readonly #max: number;
  #young = new HashTable();
  #old = new HashTable();
  /** Of the key that `find` found. */
  value = 0;
  tag = 0;
  /** Number of the younger table. */
  generation = 1;

  constructor(maxPerGeneration: number) {
    this.#max = maxPerGeneration;
  }

  get bytes(): number {
    return this.#young.bytes + this.#old.bytes;
  }

  /** Whether a key is there; then `value` and `tag` are what was added with it. */
  find(k0: number, k1: number, k2: number, k3: number): boolean {
    const young = this.#young.find(k0, k1, k2, k3);
    if (young >= 0) {
      this.value = this.#young.valueAt(young);
      this.tag = this.#young.tagAt(young);
      return true;
    }
    const old = this.#old.find(k0, k1, k2, k3);
    if (old < 0) return false;
    this.value = this.#old.valueAt(old);
    this.tag = this.#old.tagAt(old);
    this.add(k0, k1, k2, k3, this.value, this.tag);
    return true;
  }

  /** Between two pieces of work, so that nothing is forgotten within one: begins a new generation where the younger table is full. */
  age(): void {
    if (this.#young.size < this.#max) return;
    this.#old = this.#young;
    this.#young = new HashTable();
    this.generation += 1;
  }

  /** Adds a key that the younger table does not have. */
  add(k0: number, k1: number, k2: number, k3: number, value: number, tag: number): void {
    this.#young.add(k0, k1, k2, k3, value, tag);
  }

  /** Whether everything that was added since `generation` began is still there. */
  remembers(generation: number): boolean {
    return generation >= this.generation - 1;
  }
}

/** Multilinear: with secret odd multipliers, two different keys seldom share their upper bits. */
function place(k0: number, k1: number, k2: number, k3: number): number {
  const sum = Math.imul(k0, M0) + Math.imul(k1, M1) + Math.imul(k2, M2) + Math.imul(k3, M3);
  return Math.imul(sum ^ (sum >>> 15), 0x9e3779b1) >>> 0;
}

function oddNumber(): number {
  return randomInt(2 ** 32) | 1;
}
