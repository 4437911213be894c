import type { NamedSecond } from './selection.js';

/** A second that a step has rows of. */
export interface Slice extends NamedSecond {
  /** Rows of it at hand. */
  rows: number;
}

/** A second with so many new rows will get more: it is worth having in memory. */
const HOT_ROWS = 16;
/** So is one that is as recent as this, ms. */
const HOT_AGE_MS = 10 * 60_000;
/** Rows that one query loads, about. */
const LOAD_ROWS = 500_000;

/** Whether it is worth having all of a second's identities in memory. */
export function isWorthIt({ second, rows }: Slice, nowMs: number): boolean {
  return rows >= HOT_ROWS || second * 1000 >= nowMs - HOT_AGE_MS;
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
