import { hashOf } from './hash-table.js';

/**
 * The 128-bit keys that were added last, each with a value and a tag: a ring in flat arrays, and no object for any of them. Keys whose hash
 * is the same are a chain from the newest to the oldest, as in matchers of LZ77 (zlib's deflate.c): what has been written over is older
 * than all that has not, so that a chain ends at the first of it and nothing is ever removed.
 *
 * A step (`beginStep`) may rely on what it finds: that is not written over before it ends.
 */

/** Of an entry: the key's four words, the value, the tag, and where the next older one of its chain is. */
const WORDS = 7;
const VALUE = 4;
const TAG = 5;
const OLDER = 6;
/** So much room there is from the beginning. */
const ROOM_START = 1 << 12;
/** Of the first key. Positions lose their upper bits in the arrays; so near to that, every process gets there, and every test. */
const POSITION_START = 2 ** 32 - 1_000;
/** It has room for so many steps like the last ones, where that is not more than was allowed. */
const STEPS_WANTED = 8;

export class RecentKeys {
  readonly #roomMax: number;
  readonly #stepsMin: number;
  #room = 0;
  #entries = new Uint32Array();
  /** Of each hash, the newest entry's position. */
  #newest = new Uint32Array();
  #shift = 0;
  /** Of the next key. */
  #position = POSITION_START;
  /** Which entry that will be. */
  #next = 0;
  /** What was added before is not found: it may be written over, or was forgotten. */
  #from = POSITION_START;
  /** Of the key that `find` found. */
  value = 0;
  tag = 0;
  foundAt = 0;
  /** Of the key that `find` looked for. */
  #hash = 0;

  /** With room for so many keys, or for `stepsMin` steps, at least 1, where that is more. */
  constructor(roomMax: number, stepsMin: number) {
    this.#roomMax = roomMax;
    this.#stepsMin = stepsMin;
    this.#setRoom(Math.min(roomMax, ROOM_START));
  }

  /** Bytes of its arrays. */
  get bytes(): number {
    return this.#entries.byteLength + this.#newest.byteLength;
  }

  /** Where the next key goes: how many there were, and a number that never goes back. */
  get position(): number {
    return this.#position;
  }

  /** What is found from now on stays while so many keys are added; there is room for so many `earlier` ones too. */
  beginStep(keys: number, earlier = 0): void {
    const wanted = Math.max(Math.min(keys * STEPS_WANTED, this.#roomMax), keys * this.#stepsMin + earlier);
    if (wanted > this.#room) this.#grow(wanted);
    this.#from = Math.max(this.#from, this.#position + keys - this.#room);
  }

  /** From now on there is nothing. */
  clear(): void {
    this.#from = this.#position;
  }

  /** Whether everything that was added from this position on is there. */
  remembers(position: number): boolean {
    return position >= this.#position - this.#reach();
  }

  /** Whether a key is there; then `value` and `tag` are what was added with it last, and `foundAt` where. */
  find(k0: number, k1: number, k2: number, k3: number): boolean {
    const entries = this.#entries;
    const reach = this.#reach();
    const hash = hashOf(k0, k1, k2, k3) >>> this.#shift;
    this.#hash = hash;
    let at = this.#newest[hash] ?? 0;
    for (let age = 0; ;) {
      const newer = age;
      age = (this.#position - at) >>> 0;
      // What the arrays have of 2^32 positions ago, or from the beginning, may look newer than what it follows.
      if (age > reach || age <= newer) return false;
      const index = this.#next - age;
      const entry = (index < 0 ? index + this.#room : index) * WORDS;
      if (
        entries[entry] === k0 &&
        entries[entry + 1] === k1 &&
        entries[entry + 2] === k2 &&
        entries[entry + 3] === k3
      ) {
        this.value = entries[entry + VALUE] ?? 0;
        this.tag = entries[entry + TAG] ?? 0;
        this.foundAt = this.#position - age;
        return true;
      }
      at = entries[entry + OLDER] ?? 0;
    }
  }

  /** Adds the key that `find` has just looked for, in place of what there was of it. Words are unsigned. */
  add(k0: number, k1: number, k2: number, k3: number, value: number, tag: number): void {
    this.#append(this.#hash, k0, k1, k2, k3, value, tag);
  }

  #append(hash: number, k0: number, k1: number, k2: number, k3: number, value: number, tag: number): void {
    const entries = this.#entries;
    const entry = this.#next * WORDS;
    entries[entry] = k0;
    entries[entry + 1] = k1;
    entries[entry + 2] = k2;
    entries[entry + 3] = k3;
    entries[entry + VALUE] = value;
    entries[entry + TAG] = tag;
    entries[entry + OLDER] = this.#newest[hash] ?? 0;
    this.#newest[hash] = this.#position;
    this.#position += 1;
    this.#next = this.#next + 1 === this.#room ? 0 : this.#next + 1;
  }

  /** How far back keys are found. */
  #reach(): number {
    return Math.min(this.#room, this.#position - this.#from);
  }

  #grow(wanted: number): void {
    const [entries, room] = [this.#entries, this.#room];
    const kept = this.#reach();
    const oldest = this.#next - kept + room;
    const step = Math.max(1, 2 ** Math.floor(Math.log2(wanted)) / 8);
    this.#setRoom(Math.ceil(wanted / step) * step);
    this.#position -= kept;
    this.#from = this.#position;
    for (let i = 0; i < kept; i += 1) {
      const at = ((oldest + i) % room) * WORDS;
      const [k0, k1, k2, k3] = [entries[at] ?? 0, entries[at + 1] ?? 0, entries[at + 2] ?? 0, entries[at + 3] ?? 0];
      const hash = hashOf(k0, k1, k2, k3) >>> this.#shift;
      this.#append(hash, k0, k1, k2, k3, entries[at + VALUE] ?? 0, entries[at + TAG] ?? 0);
    }
  }

  /** Nothing is in it. */
  #setRoom(room: number): void {
    const hashBits = Math.round(Math.log2(room));
    this.#room = room;
    this.#shift = 32 - hashBits;
    this.#entries = new Uint32Array(room * WORDS);
    this.#newest = new Uint32Array(2 ** hashBits);
    this.#next = 0;
  }
}
