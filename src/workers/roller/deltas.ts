import { sortUnique, writeBitmapState } from './bitmap-state.js';
import { LEVEL } from './level.js';
import { RowBinaryWriter, textBytes } from './row-binary-writer.js';

/**
 * What a commit adds: events and users per minute, event name and channel, and the keys of the identities that are counted
 * with it; and the rows of `rollup` that say so.
 *
 * A row is a few numbers in flat arrays, in the order in which it was counted; which cell it belongs to is one of them. The arrays are kept
 * from one commit to the next: memory that is touched for the first time costs more than what is written there.
 */

/** The events of a minute: each the second of the minute it happened in, times 2^32, plus its user's number. */
export type Entries = readonly number[];

/** The generation that a day's cells belong to; '' is all event names. */
export type GenerationOf = (eventName: string, day: number) => number;

/** Of the rows that `encode` makes. */
export const CELL_COLUMNS = 'level, event_name, channel, bucket, generation, total, commits, users, entries';
export const CELL_STRUCTURE = `level UInt8, event_name LowCardinality(String), channel LowCardinality(String), bucket UInt32, generation UInt64,
    total Int64, commits UInt64, users AggregateFunction(groupBitmap, UInt32), entries Array(UInt64)`;

/** Whose commit it is, and which. */
export interface CommitMark {
  readonly roller: string;
  readonly number: number;
}

export interface EncodedCells {
  readonly rows: number;
  /** RowBinary; valid until the next call. */
  readonly bytes: Buffer;
}

export const MINUTES_OF_DAY = 1_440;
const MINUTES_OF_HOUR = 60;
const HOURS_OF_DAY = 24;
export const MINUTE_MS = 60_000;
const HOURS_OF_SPAN = 120;
const ROOM_MIN = 1_024;
const ENTRY_BYTES = 8;
const NO_NAME = textBytes('');

/** What is added to an event name and channel. */
export interface AddedMinutes {
  readonly eventName: string;
  readonly channel: string;
  readonly minutes: ReadonlyMap<number, Float64Array>;
}

/** An event name or a channel of the cells that an hour goes into, as bytes, and the generation of that day's cells. */
interface CellsOfHour {
  readonly eventName: Buffer;
  readonly channel: Buffer;
  readonly generation: number;
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
  /** The rows cell by cell; cell `c` from `#ends[c - 1]` on to before `#ends[c]`. */
  #sortedUids = new Uint32Array(0);
  #sortedSeconds = new Uint8Array(0);
  #ends = new Uint32Array(0);
  #users = new Uint32Array(ROOM_MIN);
  readonly #writer = new RowBinaryWriter();
  #encodedRows = 0;

  get empty(): boolean {
    return this.rows === 0;
  }

  /** Keys of what is counted; valid until the next is added. */
  get keys(): Uint32Array {
    return this.#keys.subarray(0, this.#keyWords);
  }

  /** What is added, by event name and channel: its minutes with their entries. */
  *groups(): Generator<AddedMinutes> {
    this.#sortByCell();
    const [uids, seconds, ends] = [this.#sortedUids, this.#sortedSeconds, this.#ends];
    for (const { eventName, channel, cells } of this.#groups.values()) {
      const minutes = new Map<number, Float64Array>();
      for (const [minute, cell] of cells) {
        const from = cell === 0 ? 0 : (ends[cell - 1] ?? 0);
        const entries = new Float64Array((ends[cell] ?? 0) - from);
        for (let i = 0; i < entries.length; i += 1)
          entries[i] = (seconds[from + i] ?? 0) * 2 ** 32 + (uids[from + i] ?? 0);
        if (entries.length > 0) minutes.set(minute, entries);
      }
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

  /**
   * The rows that a commit adds: of each minute one, and of each hour one for every cell above it that it is part of. Several rows of one
   * key are put together when they are inserted. The first row counts the commit. `allNames`: whether the events are new to the cells of
   * all event names as well.
   */
  encode(generationOf: GenerationOf, allNames: boolean, commit: CommitMark): EncodedCells {
    this.#sortByCell();
    const writer = this.#writer;
    writer.clear();
    this.#encodedRows = 0;
    this.#writeHead(LEVEL.commits, { eventName: textBytes(commit.roller), channel: NO_NAME }, 0, 0, 0, commit.number);
    writeBitmapState(writer, this.#users, 0);
    writer.length(0);
    for (const group of this.#groups.values()) {
      const [eventName, channel] = [textBytes(group.eventName), textBytes(group.channel)];
      for (const [hour, minutes] of minutesByHour(group.cells, this.#ends)) {
        const day = Math.floor(hour / HOURS_OF_DAY);
        const generation = generationOf(group.eventName, day);
        const ofEach = [eventName, NO_NAME].flatMap((name) => {
          if (name === NO_NAME && !allNames) return [];
          const own = name === NO_NAME ? generationOf('', day) : generation;
          return [channel, NO_NAME].map((of): CellsOfHour => ({ eventName: name, channel: of, generation: own }));
        });
        this.#writeHour(hour, minutes, ofEach);
      }
    }
    return { rows: this.#encodedRows, bytes: writer.bytes() };
  }

  #writeHour(
    hour: number,
    minutes: readonly (readonly [minute: number, cell: number])[],
    above: readonly CellsOfHour[],
  ): void {
    const writer = this.#writer;
    const [own] = above;
    let total = 0;
    let [from, to] = [0, 0];
    for (const [minute, cell] of minutes) {
      const [first, end] = [cell === 0 ? 0 : (this.#ends[cell - 1] ?? 0), this.#ends[cell] ?? 0];
      if (own !== undefined) this.#writeHead(LEVEL.minute, own, minute, own.generation, end - first);
      from = writer.position;
      this.#writeUsers([[first, end]]);
      to = writer.position;
      this.#writeEntries(first, end);
      total += end - first;
    }
    let isKnown = minutes.length === 1;
    for (const cell of above) {
      for (const { level, hours } of LEVELS_ABOVE) {
        // Cells of five days are not made anew with a day: they stay in the first generation, and whoever asks for a rebuilt day does not
        // read them.
        const generation = level === LEVEL.fiveDays ? 0 : cell.generation;
        this.#writeHead(level, cell, Math.floor(hour / hours), generation, total);
        if (isKnown) {
          writer.again(from, to);
        } else {
          from = writer.position;
          this.#writeUsers(minutes.map(([, of]) => [of === 0 ? 0 : (this.#ends[of - 1] ?? 0), this.#ends[of] ?? 0]));
          to = writer.position;
          isKnown = true;
        }
        writer.length(0);
      }
    }
  }

  #writeHead(
    level: number,
    { eventName, channel }: Pick<CellsOfHour, 'eventName' | 'channel'>,
    bucket: number,
    generation: number,
    total: number,
    commits = 0,
  ): void {
    const writer = this.#writer;
    writer.uint8(level);
    writer.raw(eventName);
    writer.raw(channel);
    writer.uint32(bucket);
    writer.int64(generation);
    writer.int64(total);
    writer.int64(commits);
    this.#encodedRows += 1;
  }

  /** The users of some stretches of what is sorted by cell. */
  #writeUsers(stretches: readonly (readonly [from: number, end: number])[]): void {
    const count = stretches.reduce((sum, [from, end]) => sum + end - from, 0);
    if (this.#users.length < count) this.#users = new Uint32Array(count * 2);
    let at = 0;
    for (const [from, end] of stretches) {
      this.#users.set(this.#sortedUids.subarray(from, end), at);
      at += end - from;
    }
    writeBitmapState(this.#writer, this.#users, sortUnique(this.#users, count));
  }

  #writeEntries(from: number, end: number): void {
    this.#writer.length(end - from);
    const view = this.#writer.room((end - from) * ENTRY_BYTES);
    for (let i = from; i < end; i += 1) {
      const at = (i - from) * ENTRY_BYTES;
      view.setUint32(at, this.#sortedUids[i] ?? 0, true);
      view.setUint32(at + 4, this.#sortedSeconds[i] ?? 0, true);
    }
  }

  /** Users and seconds of all rows, cell by cell, and where each cell ends. */
  #sortByCell(): void {
    if (this.#sortedUids.length < this.rows) {
      this.#sortedUids = new Uint32Array(this.#uidOf.length);
      this.#sortedSeconds = new Uint8Array(this.#uidOf.length);
    }
    const next = new Uint32Array(this.#cells);
    for (let i = 0; i < this.rows; i += 1) {
      const cell = this.#cellOf[i] ?? 0;
      next[cell] = (next[cell] ?? 0) + 1;
    }
    let sum = 0;
    for (let cell = 0; cell < next.length; cell += 1) {
      const count = next[cell] ?? 0;
      next[cell] = sum;
      sum += count;
    }
    for (let i = 0; i < this.rows; i += 1) {
      const cell = this.#cellOf[i] ?? 0;
      const at = next[cell] ?? 0;
      this.#sortedUids[at] = this.#uidOf[i] ?? 0;
      this.#sortedSeconds[at] = this.#secondOf[i] ?? 0;
      next[cell] = at + 1;
    }
    // What was where the next one goes is now behind the last one.
    this.#ends = next;
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

/** The cells that an hour goes into beside its minutes: by how many hours. */
const LEVELS_ABOVE = [
  { level: LEVEL.hour, hours: 1 },
  { level: LEVEL.day, hours: HOURS_OF_DAY },
  { level: LEVEL.fiveDays, hours: HOURS_OF_SPAN },
] as const;

/** Minutes that have something, each with its cell, by hour. */
function minutesByHour(cells: ReadonlyMap<number, number>, ends: Uint32Array): Map<number, [number, number][]> {
  const hours = new Map<number, [number, number][]>();
  for (const [minute, cell] of cells) {
    if (ends[cell] === (cell === 0 ? 0 : ends[cell - 1])) continue;
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
