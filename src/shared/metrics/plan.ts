/**
 * Which cells of `rollup` answer for a range of time, and what is left at its ends: pure.
 *
 * Invariant: the reads and the ends cover each instant of the range once and no other; a bucket is read whole or not at
 * all; and no bucket could be replaced by a coarser one. Spans of five days stand in the middle, whole days, hours and minutes towards
 * the ends, and less than a minute is left at each end.
 */

/** Milliseconds since 1970: [fromMs, toMs). */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

/** `level` as in the table `rollup`. */
export type Level = 1 | 2 | 3 | 4;

/** The buckets [first, end) of one level, numbered since 1970 in its own unit. */
export interface CellRead {
  readonly level: Level;
  readonly first: number;
  readonly end: number;
}

export interface Plan {
  /** In time order. */
  readonly reads: readonly CellRead[];
  /** Less than a minute each, or less than two without a whole one. In time order: at most two. */
  readonly ends: readonly TimeRange[];
}

export const BUCKET_MS: Readonly<Record<Level, number>> = { 1: 60_000, 2: 3_600_000, 3: 86_400_000, 4: 5 * 86_400_000 };

/** Beyond this level no group of the answer is whole in a bucket, or none finer is needed. */
export function planReads(range: TimeRange, coarsest: Level): Plan {
  const reads: CellRead[] = [];
  const ends: TimeRange[] = [];
  cover(range, coarsest, reads, ends);
  return { reads, ends };
}

function cover({ fromMs, toMs }: TimeRange, level: number, reads: CellRead[], ends: TimeRange[]): void {
  if (fromMs >= toMs) return;
  if (!isLevel(level)) {
    ends.push({ fromMs, toMs });
    return;
  }
  const first = Math.ceil(fromMs / BUCKET_MS[level]);
  const end = Math.floor(toMs / BUCKET_MS[level]);
  if (first >= end) {
    cover({ fromMs, toMs }, level - 1, reads, ends);
    return;
  }
  cover({ fromMs, toMs: first * BUCKET_MS[level] }, level - 1, reads, ends);
  reads.push({ level, first, end });
  cover({ fromMs: end * BUCKET_MS[level], toMs }, level - 1, reads, ends);
}

function isLevel(level: number): level is Level {
  return level === 1 || level === 2 || level === 3 || level === 4;
}

/** The first and the last day, since 1970, that a read touches. */
export function daysOf({ level, first, end }: CellRead): { readonly first: number; readonly last: number } {
  const day = BUCKET_MS[3];
  return { first: Math.floor((first * BUCKET_MS[level]) / day), last: Math.ceil((end * BUCKET_MS[level]) / day) - 1 };
}
