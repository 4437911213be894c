import { MINUTE_MS } from './deltas.js';
import { type MinuteRange, rangesOf } from './load.js';

/** A minute of an event name. */
export interface Slice {
  readonly eventName: string;
  readonly minute: number;
  /** Rows of it at hand. */
  rows: number;
}

/** A minute with so many new rows will get more: it is worth having in memory. */
const HOT_ROWS = 64;
/** So is one that is as recent as this, ms. */
const HOT_AGE_MS = 10 * 60_000;
/** Rows that one query loads, about. */
const LOAD_ROWS = 500_000;

/** Whether it is worth having all of a minute's identities in memory. */
export function isWorthIt({ minute, rows }: Slice, nowMs: number): boolean {
  return rows >= HOT_ROWS || minute * MINUTE_MS >= nowMs - HOT_AGE_MS;
}

export function rangesOfSlices(slices: Iterable<Slice>): MinuteRange[] {
  const byName = new Map<string, number[]>();
  for (const { eventName, minute } of slices) {
    const minutes = byName.get(eventName);
    if (minutes === undefined) byName.set(eventName, [minute]);
    else minutes.push(minute);
  }
  return [...byName].flatMap(([eventName, minutes]) => rangesOf(eventName, minutes));
}

/** Slices in parts that one query can ask for and memory can hold. */
export function partsOf(slices: readonly Slice[], slicesMax: number): Slice[][] {
  const all: Slice[][] = [];
  let part: Slice[] = [];
  let rows = 0;
  for (const slice of slices) {
    if (part.length > 0 && (part.length >= slicesMax || rows + slice.rows > LOAD_ROWS)) {
      all.push(part);
      part = [];
      rows = 0;
    }
    part.push(slice);
    rows += slice.rows;
  }
  if (part.length > 0) all.push(part);
  return all;
}
