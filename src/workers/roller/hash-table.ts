import { randomInt } from 'node:crypto';

/**
 * Open addressing over 128-bit keys in flat arrays: millions of entries without an object each. A key is four 32-bit words,
 * compared in full. Where it is looked for depends on multipliers of this process, so that keys that a producer chooses
 * cannot be made to crowd one place.
 *
 * Most keys that are looked for are not there: of each place 16 bits of the hash stand by themselves, small enough to stay near the cache, and the
 * entry is looked at only where they agree.
 */

/** Of an entry: the key's four words, the value. */
const WORDS = 5;
const VALUE = 4;
const SLOTS_MIN = 1 << 12;
const SLOTS_LARGE = 1 << 18;
/** Beyond this share of slots in use, probing gets long; below, what is probed are marks that lie side by side. */
const LOAD_MAX = 0.75;
const NOT_FOUND = -1;
const [M0, M1, M2, M3] = [oddNumber(), oddNumber(), oddNumber(), oddNumber()];

export class HashTable {
  #slots: number;
  #shift: number;
  /** 16 bits of the hash, never 0; 0: the slot is free. */
  #marks: Uint16Array;
  #entries: Uint32Array;
  #size = 0;

  /** `slots`: a power of two. */
  constructor(slots = SLOTS_MIN) {
    this.#slots = slots;
    this.#shift = 32 - Math.log2(slots);
    this.#marks = new Uint16Array(slots);
    this.#entries = new Uint32Array(slots * WORDS);
  }

  /** With room for so many keys. */
  static for(keys: number): HashTable {
    return new HashTable(Math.max(SLOTS_MIN, 2 ** Math.ceil(Math.log2(keys / LOAD_MAX + 1))));
  }

  /** The slot of a key, or a negative number. */
  find(k0: number, k1: number, k2: number, k3: number): number {
    const marks = this.#marks;
    const entries = this.#entries;
    const last = this.#slots - 1;
    const hash = hashOf(k0, k1, k2, k3);
    const wanted = markOf(hash);
    for (let slot = hash >>> this.#shift; ; slot = (slot + 1) & last) {
      const mark = marks[slot];
      if (mark === 0) return NOT_FOUND;
      if (mark !== wanted) continue;
      const at = slot * WORDS;
      if (entries[at] === k0 && entries[at + 1] === k1 && entries[at + 2] === k2 && entries[at + 3] === k3) return slot;
    }
  }

  valueAt(slot: number): number {
    return this.#entries[slot * WORDS + VALUE] ?? 0;
  }

  setValue(slot: number, value: number): void {
    this.#entries[slot * WORDS + VALUE] = value;
  }

  /** Adds a key that is not there. Words are unsigned. */
  add(k0: number, k1: number, k2: number, k3: number, value: number): void {
    if (this.#size >= this.#slots * LOAD_MAX) this.#grow();
    this.#put(k0, k1, k2, k3, value);
    this.#size += 1;
  }

  #put(k0: number, k1: number, k2: number, k3: number, value: number): void {
    const last = this.#slots - 1;
    const hash = hashOf(k0, k1, k2, k3);
    let slot = hash >>> this.#shift;
    while (this.#marks[slot] !== 0) slot = (slot + 1) & last;
    this.#marks[slot] = markOf(hash);
    const entries = this.#entries;
    const at = slot * WORDS;
    entries[at] = k0;
    entries[at + 1] = k1;
    entries[at + 2] = k2;
    entries[at + 3] = k3;
    entries[at + VALUE] = value;
  }

  #grow(): void {
    const [marks, entries] = [this.#marks, this.#entries];
    // What is small and grows will mostly be large: moved twice as seldom.
    const bits = this.#slots < SLOTS_LARGE ? 2 : 1;
    this.#slots *= 2 ** bits;
    this.#shift -= bits;
    this.#marks = new Uint16Array(this.#slots);
    this.#entries = new Uint32Array(this.#slots * WORDS);
    eachEntry(marks, entries, WORDS, (k0, k1, k2, k3, at) => {
      this.#put(k0, k1, k2, k3, entries[at + VALUE] ?? 0);
    });
  }
}

/** Of each place that is taken, the key and where its entry begins. */
export function eachEntry(
  marks: Uint16Array,
  entries: Uint32Array,
  words: number,
  onEntry: (k0: number, k1: number, k2: number, k3: number, at: number) => void,
): void {
  for (let slot = 0; slot < marks.length; slot += 1) {
    if (marks[slot] === 0) continue;
    const at = slot * words;
    onEntry(entries[at] ?? 0, entries[at + 1] ?? 0, entries[at + 2] ?? 0, entries[at + 3] ?? 0, at);
  }
}

/** Multilinear: with secret odd multipliers, two different keys seldom share their upper bits. */
export function hashOf(k0: number, k1: number, k2: number, k3: number): number {
  const sum = Math.imul(k0, M0) + Math.imul(k1, M1) + Math.imul(k2, M2) + Math.imul(k3, M3);
  return Math.imul(sum ^ (sum >>> 15), 0x9e3779b1) >>> 0;
}

function markOf(hash: number): number {
  return hash & 0xffff || 1;
}

function oddNumber(): number {
  return randomInt(2 ** 32) | 1;
}
