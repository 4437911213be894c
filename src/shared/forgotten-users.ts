import { sipHash128 } from './sip-hash.js';

/**
 * The users whose events are refused (table `forgotten_users`), in memory that main writes and all encoders read: a table of
 * sipHash128 by open addressing, and in front of it one bit for each value of 21 bits of a CRC-32, which says for all but a few
 * others that they are not in the table. With an empty list an event costs one comparison; with any other its user's CRC-32.
 *
 * It only grows, and has one writer: a hash is complete before its first word, which readers look at first, is stored.
 */

/** More are still deleted (retention.ts), but not refused: main says so. */
export const FORGOTTEN_MAX = 100_000;

/** How late an instance may hear of a user. */
export const FORGOTTEN_REFRESH_MS = 5_000;

/** A little sparser than FORGOTTEN_MAX, so that a search ends soon. */
const SLOTS = 1 << 17;
const WORDS = 4;
const FILTER_BITS = 21;
const HEAD_WORDS = 1;
const FILTER_WORDS = (1 << FILTER_BITS) / 32;
const TABLE_AT = HEAD_WORDS + FILTER_WORDS;

export function createForgottenUsers(): SharedArrayBuffer {
  return new SharedArrayBuffer((TABLE_AT + SLOTS * WORDS) * 4);
}

export interface ForgottenUser {
  readonly crc32: number;
  /** sipHash128 of the user's id. */
  readonly hash: Buffer;
}

export class ForgottenUsers {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  get count(): number {
    return Atomics.load(this.#words, 0);
  }

  /** Adds one, unless it is there; false where there is no room. For one thread only. */
  add({ crc32, hash }: ForgottenUser): boolean {
    const words = this.#words;
    const at = this.#find(hash);
    if (Atomics.load(words, at) !== 0) return true;
    if (this.count >= FORGOTTEN_MAX) return false;
    for (let i = 1; i < WORDS; i += 1) words[at + i] = hash.readInt32LE(i * 4);
    Atomics.store(words, at, firstWord(hash));
    const bit = crc32 >>> (32 - FILTER_BITS);
    Atomics.or(words, HEAD_WORDS + (bit >>> 5), 1 << (bit & 31));
    Atomics.add(words, 0, 1);
    return true;
  }

  /** Whether the UTF-8 of a user's id, in `text` from `start` to `end`, is of one of them. */
  has(text: Uint8Array, start: number, end: number): boolean {
    const words = this.#words;
    if (this.count === 0) return false;
    const bit = crcOf(text, start, end) >>> (32 - FILTER_BITS);
    if (((words[HEAD_WORDS + (bit >>> 5)] ?? 0) & (1 << (bit & 31))) === 0) return false;
    return Atomics.load(words, this.#find(sipHash128(text.subarray(start, end)))) !== 0;
  }

  /** Index of the slot that has the hash, or of the empty one where it belongs. */
  #find(hash: Buffer): number {
    const words = this.#words;
    const first = firstWord(hash);
    for (let slot = hash.readUInt32LE(4) & (SLOTS - 1); ; slot = (slot + 1) & (SLOTS - 1)) {
      const at = TABLE_AT + slot * WORDS;
      const found = Atomics.load(words, at);
      if (found === 0 || (found === first && isSame(words, at, hash))) return at;
    }
  }
}

/** Never 0, which is an empty slot: one of 128 bits is given up for that. */
function firstWord(hash: Buffer): number {
  return hash.readInt32LE(0) | 1;
}

function isSame(words: Int32Array, at: number, hash: Buffer): boolean {
  for (let i = 1; i < WORDS; i += 1) if (words[at + i] !== hash.readInt32LE(i * 4)) return false;
  return true;
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0xedb88320);
  return crc;
});

/** CRC-32 as of zlib, whose own costs more than this for so few bytes: a call out of JavaScript. */
function crcOf(text: Uint8Array, start: number, end: number): number {
  let crc = -1;
  for (let at = start; at < end; at += 1) crc = (CRC_TABLE[(crc ^ (text[at] ?? 0)) & 0xff] ?? 0) ^ (crc >>> 8);
  return ~crc;
}
