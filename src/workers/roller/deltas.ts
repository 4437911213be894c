/**
 * What a commit adds: events and users per minute, event name and channel, and the keys of the identities that are counted
 * with it. cell-rows.ts makes rows of `rollup` of these.
 *
 * A row is a few numbers in flat arrays, in the order in which it was counted; which cell it belongs to is one of them. The arrays are kept
 * from one commit to the next: memory that is touched for the first time costs more than what is written there.
 */

/** The events of a minute: each the second of the minute it happened in, times 2^32, plus its user's number. */
export type Entries = readonly number[];

/** The generation that a day's cells belong to; '' is all event names. */
export type GenerationOf = (eventName: string, day: number) => number;

export const MINUTES_OF_DAY = 1_440;
export const MINUTE_MS = 60_000;
const ROOM_MIN = 1_024;

/** What is added to an event name and channel. */
export interface AddedMinutes {
  readonly eventName: string;
  readonly channel: string;
  readonly minutes: ReadonlyMap<number, Float64Array>;
}

/** The minutes of an event name and channel. */
interface Group {
  readonly eventName: string;
  readonly channel: string;
  /** Numbers of the cells. */
  readonly cells: Map<number, number>;
}

/** Users and seconds of the rows of cell `c`: from `bounds[c]` on to before `bounds[c + 1]`. */
export interface SortedRows {
  readonly uids: Uint32Array;
  readonly seconds: Uint8Array;
  readonly bounds: Uint32Array;
}

export class Deltas {
  readonly #groups = new Map<string, Group>();
  /** Cells that there are, with rows or without. */
  #cells = 0;
  /** Rows that are counted, and of each the cell, the second of the minute and the user. */
  rows = 0;
  #cellOf = new Uint32Array(ROOM_MIN);
  #secondOf = new Uint8Array(ROOM_MIN);
  #uidOf = new Uint32Array(ROOM_MIN);
  /** Of `rollup_identities`, two words each: 32 bits of the hash, the minute. */
  #keys = new Uint32Array(2 * ROOM_MIN);
  #keyWords = 0;
  #sortedUids = new Uint32Array(0);
  #sortedSeconds = new Uint8Array(0);

  get empty(): boolean {
    return this.rows === 0;
  }

  /** Keys of what is counted; valid until the next is added. */
  get keys(): Uint32Array {
    return this.#keys.subarray(0, this.#keyWords);
  }

  /** What is added, by event name and channel: its minutes with their entries. */
  *groups(): Generator<AddedMinutes> {
    const { uids, seconds, bounds } = this.sorted();
    for (const { eventName, channel, cells } of this.#groups.values()) {
      const minutes = new Map<number, Float64Array>();
      for (const [minute, cell] of cells) {
        const from = bounds[cell] ?? 0;
        const entries = new Float64Array((bounds[cell + 1] ?? 0) - from);
        for (let i = 0; i < entries.length; i += 1)
          entries[i] = (seconds[from + i] ?? 0) * 2 ** 32 + (uids[from + i] ?? 0);
        if (entries.length > 0) minutes.set(minute, entries);
      }
      if (minutes.size > 0) yield { eventName, channel, minutes };
    }
  }

  /** The event names and channels, each with the numbers of its minutes' cells: some may be empty. */
  get cells(): Iterable<Group> {
    return this.#groups.values();
  }

  /** To be filled anew. */
  clear(): void {
    this.#groups.clear();
    this.#cells = 0;
    this.rows = 0;
    this.#keyWords = 0;
  }

  /** The minutes of an event name and channel. */
  group(eventName: string, channel: string): Group {
    const key = `${eventName}\0${channel}`;
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = { eventName, channel, cells: new Map() };
      this.#groups.set(key, group);
    }
    return group;
  }

  /** The number of a group's cell of this minute. */
  cell(group: Group, minute: number): number {
    let cell = group.cells.get(minute);
    if (cell === undefined) {
      cell = this.#cells;
      this.#cells += 1;
      group.cells.set(minute, cell);
    }
    return cell;
  }

  /** Adds an event to a cell. */
  add(cell: number, secondOfMinute: number, uid: number): void {
    const at = this.rows;
    if (at === this.#cellOf.length) this.#growRows();
    this.#cellOf[at] = cell;
    this.#secondOf[at] = secondOfMinute;
    this.#uidOf[at] = uid;
    this.rows = at + 1;
  }

  addKey(hash: number, minute: number): void {
    const at = this.#keyWords;
    if (at === this.#keys.length) this.#keys = grown(this.#keys, new Uint32Array(at * 2));
    this.#keys[at] = hash;
    this.#keys[at + 1] = minute;
    this.#keyWords = at + 2;
  }

  /** All rows, cell by cell; valid until the next is added. */
  sorted(): SortedRows {
    if (this.#sortedUids.length < this.rows) {
      this.#sortedUids = new Uint32Array(this.#uidOf.length);
      this.#sortedSeconds = new Uint8Array(this.#uidOf.length);
    }
    const bounds = new Uint32Array(this.#cells + 1);
    for (let i = 0; i < this.rows; i += 1) {
      const behind = (this.#cellOf[i] ?? 0) + 1;
      bounds[behind] = (bounds[behind] ?? 0) + 1;
    }
    for (let cell = 1; cell < bounds.length; cell += 1) bounds[cell] = (bounds[cell] ?? 0) + (bounds[cell - 1] ?? 0);
    const next = bounds.slice();
    for (let i = 0; i < this.rows; i += 1) {
      const cell = this.#cellOf[i] ?? 0;
      const at = next[cell] ?? 0;
      this.#sortedUids[at] = this.#uidOf[i] ?? 0;
      this.#sortedSeconds[at] = this.#secondOf[i] ?? 0;
      next[cell] = at + 1;
    }
    return { uids: this.#sortedUids, seconds: this.#sortedSeconds, bounds };
  }

  #growRows(): void {
    const room = this.rows * 2;
    this.#cellOf = grown(this.#cellOf, new Uint32Array(room));
    this.#secondOf = grown(this.#secondOf, new Uint8Array(room));
    this.#uidOf = grown(this.#uidOf, new Uint32Array(room));
  }
}

function grown<T extends Uint8Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** `timestamp` in Unix ms. */
export function entryOf(timestamp: number, uid: number): number {
  return Math.floor((timestamp % MINUTE_MS) / 1000) * 2 ** 32 + uid;
}

/** When the event of an entry happened, Unix seconds. */
export function secondOfEntry(minute: number, entry: number): number {
  return minute * 60 + Math.floor(entry / 2 ** 32);
}
