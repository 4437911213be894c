/**
 * The arithmetic of `penstock audit`: what is known of one epoch's sequence numbers, in; what has become of each, out. Pure.
 *
 * Every number below the highest that is known is in exactly one of the classes, or in a gap: the counts of a report add up to
 * `synced`. A number that is in two places belongs to the first of: stored, pending, dead, purged, aside. Being in two of
 * them is no fault (an INSERT in doubt is stored and pending). It is one where two different batches, or two different
 * segments, claim the same number.
 */

/** [from, to). */
export interface Interval {
  readonly from: number;
  readonly to: number;
}

export interface Piece extends Interval {
  /** Whose these rows are: a batch's token, a segment's id. The same twice is one thing seen twice. */
  readonly key: string;
  /** ClickHouse refused this batch, so it was taken apart: it is no piece itself, and what lies within it may overlap. */
  readonly apart?: boolean;
}

export interface Overlap extends Interval {
  readonly keys: readonly [string, string];
}

/** Joins the pieces of one kind, which come in ascending order (`comparePieces`), and finds those that overlap. */
export class Pieces {
  readonly #runs: { from: number; to: number }[] = [];
  readonly #overlaps: Overlap[] = [];
  /** Those that reach beyond the start of the last one. */
  #open: Piece[] = [];

  add(piece: Piece): void {
    this.#open = this.#open.filter(({ to }) => to > piece.from);
    if (piece.apart !== true) {
      for (const other of this.#open) this.#compare(other, piece);
      const last = this.#runs.at(-1);
      if (last !== undefined && piece.from <= last.to) last.to = Math.max(last.to, piece.to);
      else this.#runs.push({ from: piece.from, to: piece.to });
    }
    this.#open.push(piece);
  }

  get runs(): readonly Interval[] {
    return this.#runs;
  }

  get overlaps(): readonly Overlap[] {
    return this.#overlaps;
  }

  #compare(earlier: Piece, later: Piece): void {
    if (earlier.apart === true || earlier.key === later.key) return;
    const to = Math.max(earlier.to, later.to);
    if (this.#open.some((piece) => piece.apart === true && piece.from <= earlier.from && piece.to >= to)) return;
    this.#overlaps.push({
      from: later.from,
      to: Math.min(earlier.to, later.to),
      keys: [earlier.key, later.key],
    });
  }
}

/** What was taken apart stands before what lies within it. */
function comparePieces(a: Piece, b: Piece): number {
  return a.from - b.from || Number(b.apart ?? false) - Number(a.apart ?? false) || b.to - a.to;
}

export function piecesOf(pieces: readonly Piece[]): Pieces {
  const joined = new Pieces();
  for (const piece of pieces.toSorted(comparePieces)) joined.add(piece);
  return joined;
}

export interface EpochFacts {
  /** Completed batches, and batches that were taken apart. */
  readonly stored: Pieces;
  /** In segments of the log. */
  readonly pending: Pieces;
  readonly dead: Pieces;
  readonly purged: Pieces;
  readonly aside: Pieces;
  /** Rows that the epoch is known to have had, by a note of its end; 0 where there is none. */
  readonly notedRows: number;
}

export interface EpochReport {
  /** One more than the highest sequence number that is known: so many were synced. */
  readonly synced: number;
  readonly stored: number;
  readonly pending: number;
  readonly dead: number;
  readonly purged: number;
  readonly aside: number;
  readonly gaps: readonly Interval[];
  readonly overlaps: readonly Overlap[];
}

export function auditEpoch(facts: EpochFacts): EpochReport {
  const { stored, pending, dead, purged, aside, notedRows } = facts;
  const sources = [stored, pending, dead, purged, aside];
  const synced = Math.max(notedRows, ...sources.map(({ runs }) => runs.at(-1)?.to ?? 0));
  let left: readonly Interval[] = synced === 0 ? [] : [{ from: 0, to: synced }];
  const counts = sources.map(({ runs }) => {
    const before = rowsOf(left);
    left = subtract(left, runs);
    return before - rowsOf(left);
  });
  const [storedRows = 0, pendingRows = 0, deadRows = 0, purgedRows = 0, asideRows = 0] = counts;
  return {
    synced,
    stored: storedRows,
    pending: pendingRows,
    dead: deadRows,
    purged: purgedRows,
    aside: asideRows,
    gaps: left,
    overlaps: [...stored.overlaps, ...pending.overlaps],
  };
}

function rowsOf(intervals: readonly Interval[]): number {
  return intervals.reduce((sum, { from, to }) => sum + to - from, 0);
}

/** What of `intervals` is not in `taken`; both ascending and each without overlap. */
export function subtract(intervals: readonly Interval[], taken: readonly Interval[]): Interval[] {
  const left: Interval[] = [];
  let next = 0;
  for (const { from, to } of intervals) {
    let at = from;
    while ((taken[next]?.to ?? Infinity) <= at) next += 1;
    for (let i = next; at < to; i += 1) {
      const cut = taken[i];
      if (cut === undefined || cut.from >= to) {
        left.push({ from: at, to });
        break;
      }
      if (cut.from > at) left.push({ from: at, to: cut.from });
      at = Math.max(at, cut.to);
    }
  }
  return left;
}

/** What is in both. */
export function intersect(a: readonly Interval[], b: readonly Interval[]): Interval[] {
  return subtract(a, subtract(a, b));
}
