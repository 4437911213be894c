import { RowBinaryWriter } from './row-binary-writer.js';

/**
 * What a commit adds: rows and users per minute, event name and channel, and the keys of the identities that are counted
 * with it. Coarser cells are made of these in ClickHouse.
 */

/** The events of a minute: each the second of the minute it happened in, times 2^32, plus its user's number. */
export type Entries = number[];

/** The generation that a day's cells belong to; '' is all event names. */
export type GenerationOf = (eventName: string, day: number) => number;

export const MINUTES_OF_DAY = 1_440;
export const MINUTE_MS = 60_000;

interface Group {
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

  /** As RowBinary: event_name, channel, minute UInt32, generation UInt64, all_generation UInt64, entries Array(UInt64). */
  encode(generationOf: GenerationOf): { readonly rows: number; readonly bytes: Buffer } {
    const writer = new RowBinaryWriter();
    let rows = 0;
    for (const { eventName, channel, minutes } of this.#groups.values()) {
      for (const [minute, entries] of minutes) {
        if (entries.length === 0) continue;
        const day = Math.floor(minute / MINUTES_OF_DAY);
        writer.string(eventName);
        writer.string(channel);
        writer.uint32(minute);
        writer.int64(generationOf(eventName, day));
        writer.int64(generationOf('', day));
        writer.int64Array(entries);
        rows += 1;
      }
    }
    return { rows, bytes: writer.bytes() };
  }
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
