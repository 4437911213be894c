import { RowBinaryWriter } from './row-binary-writer.js';

/**
 * What a commit adds: rows and users per minute, event name and channel, and the keys of the identities that are counted
 * with it. Coarser cells are made of these in ClickHouse.
 *
 * A row is a few numbers in flat arrays, in the order in which it was counted; which cell it belongs to is one of them. The arrays are kept
 * from one commit to the next: memory that is touched for the first time costs more than what is written there.
 */

/** The events of a minute: each the second of the minute it happened in, times 2^32, plus its user's number. */
export type Entries = readonly number[];

/** The generation that a day's cells belong to; '' is all event names. */
export type GenerationOf = (eventName: string, day: number) => number;

/** Of the rows that `encode` makes: an hour, with those of its minutes that something is added to, and what, minute by minute. */
export const DELTA_COLUMNS = `event_name String, channel String, bucket UInt32, generation UInt64, all_generation UInt64,
    minutes Array(UInt32), entries Array(Array(UInt64))`;

/** An hour that is added to; hours since 1970. */
export interface Hour {
  readonly eventName: string;
  readonly channel: string;
  readonly hour: number;
}

export interface EncodedDeltas {
  readonly minuteRows: number;
  readonly hours: readonly Hour[];
  /** Valid until the next call. */
  readonly bytes: Buffer;
}

export const MINUTES_OF_DAY = 1_440;
const MINUTES_OF_HOUR = 60;
const HOURS_OF_DAY = 24;
export const MINUTE_MS = 60_000;
const ROOM_MIN = 1_024;
const ENTRY_BYTES = 8;

/** What is added to an event name and channel. */
export interface AddedMinutes {
  readonly eventName: string;
  readonly channel: string;
  readonly minutes: ReadonlyMap<number, Entries>;
}

/** The minutes of an event name and channel. */
interface Group {
  readonly eventName: string;
  readonly channel: string;
  /** Numbers of the cells. */
  readonly cells: Map<number, number>;
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
  readonly #writer = new RowBinaryWriter();

  get empty(): boolean {
    return this.rows === 0;
  }

  /** Keys of what is counted; valid until the next is added. */
  get keys(): Uint32Array {
    return this.#keys.subarray(0, this.#keyWords);
  }

  /** What is added, by event name and channel: its minutes with their entries. */
  *groups(): Generator<AddedMinutes> {
    const entries = Array.from({ length: this.#cells }, (): number[] => []);
    for (let i = 0; i < this.rows; i += 1) {
      entries[this.#cellOf[i] ?? 0]?.push((this.#secondOf[i] ?? 0) * 2 ** 32 + (this.#uidOf[i] ?? 0));
    }
    for (const { eventName, channel, cells } of this.#groups.values()) {
      const minutes = new Map<number, Entries>();
      for (const [minute, cell] of cells)
        if ((entries[cell]?.length ?? 0) > 0) minutes.set(minute, entries[cell] ?? []);
      if (minutes.size > 0) yield { eventName, channel, minutes };
    }
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

  /** What the commit's statement reads, as RowBinary of DELTA_COLUMNS. */
  encode(generationOf: GenerationOf): EncodedDeltas {
    const counts = new Uint32Array(this.#cells);
    for (let i = 0; i < this.rows; i += 1) {
      const cell = this.#cellOf[i] ?? 0;
      counts[cell] = (counts[cell] ?? 0) + 1;
    }
    const writer = this.#writer;
    writer.clear();
    const hours: Hour[] = [];
    /** Of each cell, where its next entry goes. */
    const entryAt = new Uint32Array(this.#cells);
    let minuteRows = 0;
    for (const { eventName, channel, cells } of this.#groups.values()) {
      for (const [hour, minutes] of minutesByHour(cells, counts)) {
        const day = Math.floor(hour / HOURS_OF_DAY);
        writer.string(eventName);
        writer.string(channel);
        writer.uint32(hour);
        writer.int64(generationOf(eventName, day));
        writer.int64(generationOf('', day));
        writer.length(minutes.length);
        for (const [minute] of minutes) writer.uint32(minute);
        writer.length(minutes.length);
        for (const [, cell] of minutes) entryAt[cell] = writer.array(counts[cell] ?? 0, ENTRY_BYTES);
        hours.push({ eventName, channel, hour });
        minuteRows += minutes.length;
      }
    }
    this.#writeEntries(entryAt);
    return { minuteRows, hours, bytes: writer.bytes() };
  }

  /** Each row to where its cell's next one goes. */
  #writeEntries(entryAt: Uint32Array): void {
    const view = this.#writer.view();
    const [cellOf, secondOf, uidOf] = [this.#cellOf, this.#secondOf, this.#uidOf];
    for (let i = 0; i < this.rows; i += 1) {
      const cell = cellOf[i] ?? 0;
      const at = entryAt[cell] ?? 0;
      view.setUint32(at, uidOf[i] ?? 0, true);
      view.setUint32(at + 4, secondOf[i] ?? 0, true);
      entryAt[cell] = at + ENTRY_BYTES;
    }
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

/** Minutes that have something, each with its cell, by hour. */
function minutesByHour(cells: ReadonlyMap<number, number>, counts: Uint32Array): Map<number, [number, number][]> {
  const hours = new Map<number, [number, number][]>();
  for (const [minute, cell] of cells) {
    if (counts[cell] === 0) continue;
    const hour = Math.floor(minute / MINUTES_OF_HOUR);
    const known = hours.get(hour);
    if (known === undefined) hours.set(hour, [[minute, cell]]);
    else known.push([minute, cell]);
  }
  return hours;
}

/** `timestamp` in Unix ms. */
export function entryOf(timestamp: number, uid: number): number {
  return Math.floor((timestamp % MINUTE_MS) / 1000) * 2 ** 32 + uid;
}

/** When the event of an entry happened, Unix seconds. */
export function secondOfEntry(minute: number, entry: number): number {
  return minute * 60 + Math.floor(entry / 2 ** 32);
}
