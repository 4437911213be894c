import { eachEntry, hashOf } from './hash-table.js';

/**
 * The numbers of the users that were met last, by 128-bit hash, in bounded memory: 22 bytes each. A key may be in one of twice eight places side by side; who
 * is added where all are taken replaces one that was not found since the last look at it (CLOCK, place by place). Unlike in
 * `RecentKeys`, nothing is remembered for sure.
 */

const WAYS = 8;
/** Of an entry: the key's four words, the number. */
const WORDS = 5;
const VALUE = 4;
const SLOTS_START = 1 << 12;
/** Beyond this share of all places in use a small cache grows: before there are many whose sixteen places are taken. */
const LOAD_MAX = 0.8;
/** Of a mark: found since it was looked at last; the other bits are of the hash, and never 0. */
const FOUND = 0x8000;

export class UserCache {
  readonly #slotsMax: number;
  #slots: number;
  #marks: Uint16Array;
  #entries: Uint32Array;
  #size = 0;
  /** Where the next look in a full group begins. */
  #hand = 0;
  /** Of the key that `find` found. */
  value = 0;

  /** With room for so many users, to the next multiple of eight. */
  constructor(usersMax: number) {
    this.#slotsMax = Math.ceil(usersMax / WAYS) * WAYS;
    this.#slots = Math.min(this.#slotsMax, SLOTS_START);
    this.#marks = new Uint16Array(this.#slots);
    this.#entries = new Uint32Array(this.#slots * WORDS);
  }

  /** Bytes of its arrays. */
  get bytes(): number {
    return this.#marks.byteLength + this.#entries.byteLength;
  }

  get size(): number {
    return this.#size;
  }

  /** Whether a key is there; then `value` is what was added with it. */
  find(k0: number, k1: number, k2: number, k3: number): boolean {
    const slot = this.#slotOf(k0, k1, k2, k3);
    if (slot < 0) return false;
    this.#marks[slot] = (this.#marks[slot] ?? 0) | FOUND;
    this.value = this.#entries[slot * WORDS + VALUE] ?? 0;
    return true;
  }

  /** Adds a key, or gives it another value. */
  add(k0: number, k1: number, k2: number, k3: number, value: number): void {
    const known = this.#slotOf(k0, k1, k2, k3);
    if (known >= 0) {
      this.#entries[known * WORDS + VALUE] = value;
      return;
    }
    this.#insert(k0, k1, k2, k3, value, true);
  }

  /** Adds a key if it is not there and no other one has to go for it. */
  offer(k0: number, k1: number, k2: number, k3: number, value: number): void {
    if (this.#slotOf(k0, k1, k2, k3) < 0) this.#insert(k0, k1, k2, k3, value, false);
  }

  #slotOf(k0: number, k1: number, k2: number, k3: number): number {
    const hash = hashOf(k0, k1, k2, k3);
    const mark = markOf(hash);
    const slot = this.#slotIn(this.#groupOf(hash), mark, k0, k1, k2, k3);
    return slot >= 0 ? slot : this.#slotIn(this.#groupOf(otherHash(hash)), mark, k0, k1, k2, k3);
  }

  #slotIn(first: number, mark: number, k0: number, k1: number, k2: number, k3: number): number {
    const marks = this.#marks;
    const entries = this.#entries;
    for (let slot = first; slot < first + WAYS; slot += 1) {
      const found = marks[slot];
      // Places are taken in order, and never given back.
      if (found === 0 || found === undefined) return -1;
      if ((found & ~FOUND) !== mark) continue;
      const at = slot * WORDS;
      if (entries[at] === k0 && entries[at + 1] === k1 && entries[at + 2] === k2 && entries[at + 3] === k3) return slot;
    }
    return -1;
  }

  /** The first of eight places that a hash may have: its upper bits say where. */
  #groupOf(hash: number): number {
    return Math.floor((hash / 2 ** 32) * (this.#slots / WAYS)) * WAYS;
  }

  /** Adds a key that is not there; where all its places are taken, in place of another one or not at all. */
  #insert(k0: number, k1: number, k2: number, k3: number, value: number, replaces: boolean): void {
    if (this.#slots < this.#slotsMax && this.#size >= this.#slots * LOAD_MAX) this.#grow();
    const hash = hashOf(k0, k1, k2, k3);
    const free = this.#free(hash);
    if (free < 0 && !replaces) return;
    const slot = free < 0 ? this.#worst(this.#groupOf(hash)) : free;
    if (this.#marks[slot] === 0) this.#size += 1;
    this.#marks[slot] = markOf(hash);
    const at = slot * WORDS;
    this.#entries[at] = k0;
    this.#entries[at + 1] = k1;
    this.#entries[at + 2] = k2;
    this.#entries[at + 3] = k3;
    this.#entries[at + VALUE] = value;
  }

  /** A place that nobody has, of those that a hash may have: where there are more such, so that few groups are full. -1: there is none. */
  #free(hash: number): number {
    const [one, other] = [this.#groupOf(hash), this.#groupOf(otherHash(hash))];
    const [taken, takenOfOther] = [this.#taken(one), this.#taken(other)];
    if (takenOfOther < taken) return other + takenOfOther;
    return taken < WAYS ? one + taken : -1;
  }

  /** How many places of a group are taken. */
  #taken(first: number): number {
    let count = 0;
    while (count < WAYS && this.#marks[first + count] !== 0) count += 1;
    return count;
  }

  /** The next place of a full group that was not found lately; those that are passed are looked at. */
  #worst(first: number): number {
    const marks = this.#marks;
    for (;;) {
      this.#hand = (this.#hand + 1) % WAYS;
      const slot = first + this.#hand;
      const mark = marks[slot] ?? 0;
      if ((mark & FOUND) === 0) return slot;
      marks[slot] = mark & ~FOUND;
    }
  }

  #grow(): void {
    const [marks, entries] = [this.#marks, this.#entries];
    this.#slots = Math.min(this.#slots * 2, this.#slotsMax);
    this.#size = 0;
    this.#marks = new Uint16Array(this.#slots);
    this.#entries = new Uint32Array(this.#slots * WORDS);
    eachEntry(marks, entries, WORDS, (k0, k1, k2, k3, at) => {
      this.#insert(k0, k1, k2, k3, entries[at + VALUE] ?? 0, true);
    });
  }
}

/** For the second eight places: all of its bits depend on lower ones of the first. */
function otherHash(hash: number): number {
  return Math.imul(hash, 0x9e3779b1) >>> 0;
}

/** Bits that the choice of the group has not used. */
function markOf(hash: number): number {
  return hash & 0x7fff || 1;
}
