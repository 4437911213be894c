import { randomInt } from 'node:crypto';
import { MINUTE_MS } from './deltas.js';
import { RecentKeys } from './recent-keys.js';
import type { RollerLimits } from './roller-limits.js';
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
/** 2 MiB. */
const LATE_MAX = 2 ** 16;
/** Random per process: which ids meet in the table is nothing a producer can aim at. */
const SEEDS = [randomInt(2 ** 32), randomInt(2 ** 32), randomInt(2 ** 32), randomInt(2 ** 32)] as const;

export class Identities {
  readonly #seen: RecentKeys;
  readonly #ofSecondMax: number;
  readonly #late = new RecentKeys(LATE_MAX, 1);
  /** Seconds of an event name, as `sliceOf`, and the position in `#seen` from which all that was counted in them is there. */
  readonly #hot = new Map<number, number>();
  /** Of minutes of an event name that were empty when they were met: 1 for each second in which something was counted since. */
  readonly #followed = new Map<number, Uint8Array>();
  /** The key of a row. */
  #k0 = 0;
  #k1 = 0;
  #k2 = 0;
  #k3 = 0;

  constructor({
    identities,
    identitySteps,
    identitiesOfSecond,
  }: Pick<RollerLimits, 'identities' | 'identitySteps' | 'identitiesOfSecond'>) {
    this.#seen = new RecentKeys(identities, identitySteps);
    this.#ofSecondMax = identitiesOfSecond;
  }

  get bytes(): number {
    return this.#seen.bytes + this.#late.bytes;
  }

  reset(): void {
    this.#seen.clear();
    this.forgetLate();
    this.#hot.clear();
    this.#followed.clear();
  }

  /** While so many rows are counted nothing that is hot is forgotten; there is room for a second of so many. */
  beginStep(rows: number, rowsPerSecond: number): void {
    this.#seen.beginStep(rows, Math.min(rowsPerSecond, this.#ofSecondMax));
    forgetOldest(this.#hot, HOT_MAX);
  }

  /** The same of what is known of seconds that are not hot. */
  beginLate(rows: number): void {
    this.#late.beginStep(rows);
  }

  isHot(slice: number): boolean {
    return this.hotSince(slice) !== undefined;
  }

  /** The position from which all that was counted in this second is in memory; undefined: it is not hot. */
  hotSince(slice: number): number | undefined {
    const since = this.#hot.get(slice);
    return since !== undefined && this.#seen.remembers(since) ? since : undefined;
  }

  /** Every event that was counted in this second is remembered from now on: there was none, or all are added next. */
  makeHot(name: number, second: number): void {
    const slice = sliceOf(name, second);
    // Behind the others: the oldest goes first.
    this.#hot.delete(slice);
    this.#hot.set(slice, this.#seen.position);
    this.noteCounted(name, second);
  }

  makeCold(name: number, second: number): void {
    this.#hot.delete(sliceOf(name, second));
    this.#followed.delete(minuteSlice(name, second));
  }

  /** What was counted in seconds that were not hot is not known any more: cells of some of them are being made anew. */
  forgetLate(): void {
    this.#late.clear();
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
    return this.#see(this.#seen, group, i, name, channel, uid);
  }

  /** The same of a row in another second, which is not known to have been counted. */
  seeLate(group: RowGroup, i: number, name: number, channel: number, uid: number): number {
    return this.#see(this.#late, group, i, name, channel, uid);
  }

  /** Whether a row in such a second is known to have been counted. */
  recallsLate(group: RowGroup, i: number, name: number): boolean {
    this.#setKey(group, i, name);
    return this.#late.find(this.#k0, this.#k1, this.#k2, this.#k3);
  }

  /** Row `i` is counted as it is; its second has been hot since this position. */
  remember(group: RowGroup, i: number, name: number, channel: number, uid: number, hotSince: number): void {
    this.#setKey(group, i, name);
    const seen = this.#seen;
    // What was added before that is forgotten before the second is.
    if (!seen.find(this.#k0, this.#k1, this.#k2, this.#k3) || seen.foundAt < hotSince)
      seen.add(this.#k0, this.#k1, this.#k2, this.#k3, uid, channel);
  }

  #see(memory: RecentKeys, group: RowGroup, i: number, name: number, channel: number, uid: number): number {
    this.#setKey(group, i, name);
    if (!memory.find(this.#k0, this.#k1, this.#k2, this.#k3)) {
      memory.add(this.#k0, this.#k1, this.#k2, this.#k3, uid, channel);
      return SEEN.no;
    }
    return memory.value === uid && memory.tag === channel ? SEEN.same : SEEN.changed;
  }

  #setKey({ timestamps, eventIds }: RowGroup, i: number, name: number): void {
    const at = i * WORDS;
    const timestamp = timestamps[i] ?? 0;
    const low = timestamp >>> 0;
    const high = Math.floor(timestamp / 2 ** 32);
    // Time and name are part of the identity. Mixed in, two identities meet with a chance of 2^-128.
    this.#k0 = ((eventIds[at] ?? 0) ^ mix(low, high, name, SEEDS[0])) >>> 0;
    this.#k1 = ((eventIds[at + 1] ?? 0) ^ mix(low, high, name, SEEDS[1])) >>> 0;
    this.#k2 = ((eventIds[at + 2] ?? 0) ^ mix(low, high, name, SEEDS[2])) >>> 0;
    this.#k3 = ((eventIds[at + 3] ?? 0) ^ mix(low, high, name, SEEDS[3])) >>> 0;
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
