import { LEVEL } from './level.js';
import { RowBinaryWriter } from './row-binary-writer.js';

/**
 * What a commit adds: rows and users per minute, event name and channel, and the keys of the identities that are counted
 * with it. Coarser cells are made of these in ClickHouse.
 */

/** The events of a minute: each the second of the minute it happened in, times 2^32, plus its user's number. */
export type Entries = number[];

/** The generation that a day's cells belong to; '' is all event names. */
export type GenerationOf = (eventName: string, day: number) => number;

/** Of the rows that `encode` makes: a minute with its entries, or an hour without; `users` has the users of either, with repetitions. */
export const DELTA_COLUMNS = `level UInt8, event_name String, channel String, bucket UInt32, generation UInt64, all_generation UInt64,
    users Array(UInt32), entries Array(UInt64)`;

/** An hour that is added to; hours since 1970. */
export interface Hour {
  readonly eventName: string;
  readonly channel: string;
  readonly hour: number;
}

export interface EncodedDeltas {
  readonly minuteRows: number;
  readonly hours: readonly Hour[];
  readonly bytes: Buffer;
}

export const MINUTES_OF_DAY = 1_440;
const MINUTES_OF_HOUR = 60;
const HOURS_OF_DAY = 24;
export const MINUTE_MS = 60_000;

export interface Group {
  readonly eventName: string;
  readonly channel: string;
  readonly minutes: Map<number, Entries>;
}

export class Deltas {
  readonly #groups = new Map<string, Group>();
  /** Rows that are counted. */
  rows = 0;
  /** Of `rollup_identities`, two words each: 32 bits of the hash, the minute. */
  readonly keys: number[] = [];

  get empty(): boolean {
    for (const { minutes } of this.#groups.values()) {
      for (const entries of minutes.values()) if (entries.length > 0) return false;
    }
    return true;
  }

  /** What is added, by event name and channel. */
  get groups(): Iterable<Group> {
    return this.#groups.values();
  }

  /** The cells of an event name and channel, by minute; they are added where they are missing. */
  cells(eventName: string, channel: string): Map<number, Entries> {
    const key = `${eventName}\0${channel}`;
    const known = this.#groups.get(key);
    if (known !== undefined) return known.minutes;
    const minutes = new Map<number, Entries>();
    this.#groups.set(key, { eventName, channel, minutes });
    return minutes;
  }

  /** Adds to one cell. */
  add(eventName: string, channel: string, minute: number, added: readonly number[]): void {
    const entries = entriesOf(this.cells(eventName, channel), minute);
    this.rows += added.length;
    for (const entry of added) entries.push(entry);
  }

  /**
   * What the commit's statement reads, as RowBinary of `DELTA_COLUMNS`: a row for each minute, and one for each hour with the users of
   * all its minutes.
   */
  encode(generationOf: GenerationOf): EncodedDeltas {
    const writer = new RowBinaryWriter();
    const hours: Hour[] = [];
    let minuteRows = 0;
    for (const { eventName, channel, minutes } of this.#groups.values()) {
      const ofHour = new Map<number, Entries[]>();
      for (const [minute, entries] of minutes) {
        if (entries.length === 0) continue;
        writeHead(writer, LEVEL.minute, eventName, channel, minute, Math.floor(minute / MINUTES_OF_DAY), generationOf);
        writer.lowerWordArray([entries]);
        writer.int64Array(entries);
        minuteRows += 1;
        const hour = Math.floor(minute / MINUTES_OF_HOUR);
        const known = ofHour.get(hour);
        if (known === undefined) ofHour.set(hour, [entries]);
        else known.push(entries);
      }
      for (const [hour, entries] of ofHour) {
        writeHead(writer, LEVEL.hour, eventName, channel, hour, Math.floor(hour / HOURS_OF_DAY), generationOf);
        writer.lowerWordArray(entries);
        writer.int64Array([]);
        hours.push({ eventName, channel, hour });
      }
    }
    return { minuteRows, hours, bytes: writer.bytes() };
  }
}

/** The row of a cell up to its users. */
function writeHead(
  writer: RowBinaryWriter,
  level: number,
  eventName: string,
  channel: string,
  bucket: number,
  day: number,
  generationOf: GenerationOf,
): void {
  writer.uint8(level);
  writer.string(eventName);
  writer.string(channel);
  writer.uint32(bucket);
  writer.int64(generationOf(eventName, day));
  writer.int64(generationOf('', day));
}

export function entriesOf(cells: Map<number, Entries>, minute: number): Entries {
  let entries = cells.get(minute);
  if (entries === undefined) {
    entries = [];
    cells.set(minute, entries);
  }
  return entries;
}

/** `timestamp` in Unix ms. */
export function entryOf(timestamp: number, uid: number): number {
  return Math.floor((timestamp % MINUTE_MS) / 1000) * 2 ** 32 + uid;
}

/** When the event of an entry happened, Unix seconds. */
export function secondOfEntry(minute: number, entry: number): number {
  return minute * 60 + Math.floor(entry / 2 ** 32);
}
