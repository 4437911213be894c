import { RowBinaryWriter } from './row-binary-writer.js';

/**
 * What a commit adds: rows and users per minute, event name and channel, and the keys of the identities that are counted
 * with it. Coarser cells are made of these in ClickHouse.
 */

export interface Cell {
  total: number;
  readonly uids: number[];
}

/** The generation that a day's cells belong to; '' is all event names. */
export type GenerationOf = (eventName: string, day: number) => number;

export const MINUTES_OF_DAY = 1_440;
export const MINUTE_MS = 60_000;

interface Group {
  readonly eventName: string;
  readonly channel: string;
  readonly minutes: Map<number, Cell>;
}

export class Deltas {
  readonly #groups = new Map<string, Group>();
  /** Rows that are counted. */
  rows = 0;
  /** Of `rollup_identities`, two words each: 32 bits of the hash, the minute. */
  readonly keys: number[] = [];

  get empty(): boolean {
    for (const { minutes } of this.#groups.values()) {
      for (const { total, uids } of minutes.values()) if (total > 0 || uids.length > 0) return false;
    }
    return true;
  }

  /** The cells of an event name and channel, by minute; they are added where they are missing. */
  cells(eventName: string, channel: string): Map<number, Cell> {
    const key = `${eventName}\0${channel}`;
    const known = this.#groups.get(key);
    if (known !== undefined) return known.minutes;
    const minutes = new Map<number, Cell>();
    this.#groups.set(key, { eventName, channel, minutes });
    return minutes;
  }

  /** Adds to one cell. */
  add(eventName: string, channel: string, minute: number, total: number, uids: readonly number[]): void {
    const cell = cellOf(this.cells(eventName, channel), minute);
    cell.total += total;
    this.rows += total;
    for (const uid of uids) cell.uids.push(uid);
  }

  /** As RowBinary: event_name, channel, minute UInt32, generation UInt64, all_generation UInt64, total Int64, uids Array(UInt32). */
  encode(generationOf: GenerationOf): { readonly rows: number; readonly bytes: Buffer } {
    const writer = new RowBinaryWriter();
    let rows = 0;
    for (const { eventName, channel, minutes } of this.#groups.values()) {
      for (const [minute, { total, uids }] of minutes) {
        if (total === 0 && uids.length === 0) continue;
        const day = Math.floor(minute / MINUTES_OF_DAY);
        writer.string(eventName);
        writer.string(channel);
        writer.uint32(minute);
        writer.int64(generationOf(eventName, day));
        writer.int64(generationOf('', day));
        writer.int64(total);
        writer.uint32Array(uids);
        rows += 1;
      }
    }
    return { rows, bytes: writer.bytes() };
  }
}

export function cellOf(cells: Map<number, Cell>, minute: number): Cell {
  let cell = cells.get(minute);
  if (cell === undefined) {
    cell = { total: 0, uids: [] };
    cells.set(minute, cell);
  }
  return cell;
}
