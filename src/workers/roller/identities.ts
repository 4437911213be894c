import { randomInt } from 'node:crypto';
import { MINUTE_MS } from './deltas.js';
import { Generations } from './hash-table.js';
import type { RowGroup } from './rows.js';

/**
 * Which events were counted. Three kinds of memory:
 * - seconds that are hot (of one event name): every identity that was counted in them is here, exactly, with its user and channel;
 * - `rollup_identities`, for all others: 32 bits of a hash within a minute. What is not there was never counted;
 * - the last events that were counted in seconds that were not hot, exactly: late ones that are sent again soon. What is not here may have
 *   been counted all the same.
 */

/** What is known of an event. */
export const SEEN = {
  /** Never counted; it is remembered now. */
  no: 0,
  /** Counted as it is. */
  same: 1,
  /** Counted with another user or channel: a later version of it. */
  changed: 2,
} as const;

const WORDS = 4;
const SECONDS = 60;
/** About a hundred bytes each. */
const HOT_MAX = 100_000;
const FOLLOWED_MAX = 20_000;
/** Twice as many at most: 5 MiB. */
const LATE_MAX = 50_000;
/** Random per process: which ids meet in the table is nothing a producer can aim at. */
const SEEDS = [randomInt(2 ** 32), randomInt(2 ** 32), randomInt(2 ** 32), randomInt(2 ** 32)] as const;

export class Identities {
  readonly #memoryMax: number;
  #seen: Generations;
  #late = new Generations(LATE_MAX);
  /** Seconds of an event name, as `sliceOf`, and the generation of `#seen` in which they became hot. */
  readonly #hot = new Map<number, number>();
  /** Of minutes of an event name that were empty when they were met: 1 for each second in which something was counted since. */
  readonly #followed = new Map<number, Uint8Array>();

  constructor(memoryMax: number) {
    this.#memoryMax = memoryMax;
    this.#seen = new Generations(memoryMax);
  }

  get bytes(): number {
    return this.#seen.bytes + this.#late.bytes;
  }

  reset(): void {
    this.#seen = new Generations(this.#memoryMax);
    this.forgetLate();
    this.#hot.clear();
    this.#followed.clear();
  }

  /** Within one step nothing that is hot is forgotten. */
  beginStep(): void {
    this.#seen.age();
    this.#late.age();
    forgetOldest(this.#hot, HOT_MAX);
  }

  isHot(slice: number): boolean {
    const since = this.#hot.get(slice);
    return since !== undefined && this.#seen.remembers(since);
  }

  /** Every event that was counted in this second is remembered from now on: there was none, or all are added next. */
  makeHot(name: number, second: number): void {
    const slice = sliceOf(name, second);
    // Behind the others: the oldest goes first.
    this.#hot.delete(slice);
    this.#hot.set(slice, this.#seen.generation);
    this.noteCounted(name, second);
  }

  makeCold(name: number, second: number): void {
    this.#hot.delete(sliceOf(name, second));
    this.#followed.delete(minuteSlice(name, second));
  }

  /** What was counted in seconds that were not hot is not known any more: cells of some of them are being made anew. */
  forgetLate(): void {
    this.#late = new Generations(LATE_MAX);
  }

  /** Nothing was ever counted in this minute: what is counted from now on is noted. */
  follow(name: number, minute: number): void {
    this.#followed.set(sliceOf(name, minute), new Uint8Array(SECONDS));
    forgetOldest(this.#followed, FOLLOWED_MAX);
  }

  isFollowed(name: number, second: number): boolean {
    return this.#followed.has(minuteSlice(name, second));
  }

  /** Whether it is known, without asking, that nothing was counted in this second. */
  isEmpty(name: number, second: number): boolean {
    return this.#followed.get(minuteSlice(name, second))?.[second % SECONDS] === 0;
  }

  noteCounted(name: number, second: number): void {
    const seconds = this.#followed.get(minuteSlice(name, second));
    if (seconds !== undefined) seconds[second % SECONDS] = 1;
  }

  /** SEEN of row `i` in a hot second. `name` numbers the event name, `channel` the channel. */
  see(group: RowGroup, i: number, name: number, channel: number, uid: number): number {
    return this.#look(this.#seen, group, i, name, channel, uid, true);
  }

  /** The same of a row in another second, which is not known to have been counted. */
  seeLate(group: RowGroup, i: number, name: number, channel: number, uid: number): number {
    return this.#look(this.#late, group, i, name, channel, uid, true);
  }

  /** Whether a row in such a second is known to have been counted. */
  recallsLate(group: RowGroup, i: number, name: number): boolean {
    return this.#look(this.#late, group, i, name, 0, 0, false) !== SEEN.no;
  }

  #look(
    memory: Generations,
    group: RowGroup,
    i: number,
    name: number,
    channel: number,
    uid: number,
    remember: boolean,
  ): number {
    const at = i * WORDS;
    const timestamp = group.timestamps[i] ?? 0;
    const low = timestamp >>> 0;
    const high = Math.floor(timestamp / 2 ** 32);
    const ids = group.eventIds;
    // Time and name are part of the identity. Mixed in, two identities meet with a chance of 2^-128.
    const k0 = ((ids[at] ?? 0) ^ mix(low, high, name, SEEDS[0])) >>> 0;
    const k1 = ((ids[at + 1] ?? 0) ^ mix(low, high, name, SEEDS[1])) >>> 0;
    const k2 = ((ids[at + 2] ?? 0) ^ mix(low, high, name, SEEDS[2])) >>> 0;
    const k3 = ((ids[at + 3] ?? 0) ^ mix(low, high, name, SEEDS[3])) >>> 0;
    if (!memory.find(k0, k1, k2, k3)) {
      if (remember) memory.add(k0, k1, k2, k3, uid, channel);
      return SEEN.no;
    }
    return memory.value === uid && memory.tag === channel ? SEEN.same : SEEN.changed;
  }
}

/** A second, or a minute, of an event name as one number. */
export function sliceOf(name: number, time: number): number {
  return name * 2 ** 32 + time;
}

function minuteSlice(name: number, second: number): number {
  return sliceOf(name, Math.floor(second / SECONDS));
}

function forgetOldest(map: Map<number, unknown>, max: number): void {
  for (const key of map.keys()) {
    if (map.size <= max) break;
    map.delete(key);
  }
}

/** The lower word of an identity's key in `rollup_identities`; the upper one is the minute. The same in every process. */
export function keyHash(group: RowGroup, i: number, nameHash: number): number {
  const at = i * WORDS;
  const ids = group.eventIds;
  const milliseconds = (group.timestamps[i] ?? 0) % MINUTE_MS;
  const hash = mix(
    (ids[at] ?? 0) ^ (ids[at + 2] ?? 0),
    (ids[at + 1] ?? 0) ^ (ids[at + 3] ?? 0),
    milliseconds,
    nameHash,
  );
  return hash >>> 0;
}

/** FNV-1a of an event name. */
export function hashOfName(eventName: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(eventName)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

function mix(a: number, b: number, c: number, seed: number): number {
  let h = seed ^ Math.imul(a, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15) ^ b, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 13) ^ c, 0x27d4eb2f);
  return h ^ (h >>> 16);
}
