import type { CommitMark } from './fence.js';

/**
 * Which users the commits of before have written into the sets of which cells: most users of an hour, a day or five days are in them already,
 * and what ClickHouse does not get need not be merged. Who is not known is written once more; whoever is taken for written and is not would
 * be missing for good.
 *
 * Part of invariant 3 (an event counts once): it is true while each commit follows the one before, by its number and under the same name. One
 * whose fate is not known is followed by one under another name (`Fence.reset`), one of another roller by a number that is skipped: then all
 * is forgotten.
 */

/** Of the bits of all cells. A million users are 125 kB a cell. */
const WRITTEN_BYTES_MAX = 12 * 1024 * 1024;
/** Cells of so many commits stay: where not all of them fit, the same ones stay known. */
const COMMITS_KEPT = 3;
const WORDS_MIN = 64;

interface Written {
  /** A bit for each user's number. */
  bits: Uint32Array;
  usedBy: number;
}

export class WrittenUsers {
  readonly #bytesMax: number;
  /** The one that was used last is last. */
  readonly #cells = new Map<string, Written>();
  #bytes = 0;
  #commit: CommitMark = { roller: '', number: 0 };

  constructor(bytesMax = WRITTEN_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes of its bits. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What is asked for from now on is part of this commit. */
  begin(commit: CommitMark): void {
    const { roller, number } = this.#commit;
    if (commit.roller !== roller || commit.number !== number + 1) {
      this.#cells.clear();
      this.#bytes = 0;
    }
    this.#commit = commit;
  }

  /**
   * Those of the first `count` of `users` that are not known to be in a cell, into `into`; returns how many. `users` are sorted, each there
   * once. They are known from the next commit on, and for the rest of this one.
   */
  take(cell: string, users: Uint32Array, count: number, into: Uint32Array): number {
    const bits = this.#bitsOf(cell, (users[count - 1] ?? 0) + 1);
    const known = bits.length * 32;
    let taken = 0;
    for (let i = 0; i < count; i += 1) {
      const user = users[i] ?? 0;
      if (user < known) {
        const word = bits[user >>> 5] ?? 0;
        const bit = 1 << (user & 31);
        if ((word & bit) !== 0) continue;
        bits[user >>> 5] = word | bit;
      }
      into[taken] = user;
      taken += 1;
    }
    return taken;
  }

  /** Bits for so many users, or for fewer where there is no room for more. */
  #bitsOf(cell: string, users: number): Uint32Array {
    const { number } = this.#commit;
    const written = this.#cells.get(cell) ?? { bits: new Uint32Array(), usedBy: number };
    this.#cells.delete(cell);
    const missing = Math.ceil(users / 32) - written.bits.length;
    if (missing > 0) {
      const words = Math.max(WORDS_MIN, Math.ceil(users / 32), Math.floor(written.bits.length * 1.5));
      if (this.#makeRoom((words - written.bits.length) * 4)) {
        const bits = new Uint32Array(words);
        bits.set(written.bits);
        this.#bytes += bits.byteLength - written.bits.byteLength;
        written.bits = bits;
      }
    }
    written.usedBy = number;
    if (written.bits.length > 0) this.#cells.set(cell, written);
    return written.bits;
  }

  /** Lets cells go that are not written any more; false where that is not enough. */
  #makeRoom(bytes: number): boolean {
    for (const [cell, { bits, usedBy }] of this.#cells) {
      if (this.#bytes + bytes <= this.#bytesMax || usedBy > this.#commit.number - COMMITS_KEPT) break;
      this.#cells.delete(cell);
      this.#bytes -= bits.byteLength;
    }
    return this.#bytes + bytes <= this.#bytesMax;
  }
}
