import { CELLS_MISSES, type CellsMiss } from '../shared/cells.js';

/** How metrics questions were answered: counted on main, written down when Prometheus asks. */

/** Why a question was answered from raw rows. */
export const RAW_REASONS = [
  /** The rollups have not caught up, or lag. */
  'behind',
  /** The range is empty. */
  'empty',
  /** A day in the range waits to be rebuilt. */
  'exception',
  /** There are more event names than are rolled, and this question may concern the others. */
  'names',
  /** Exceptions changed under the question each time that it was put. */
  'changing',
] as const;
export type RawReason = (typeof RAW_REASONS)[number];

export class AnswerTally {
  #fromCells = 0;
  readonly #misses = new Map<CellsMiss, number>(CELLS_MISSES.map((reason) => [reason, 0]));
  #fromRollups = 0;
  /** Statements over rollups that had to be put again. */
  #repeated = 0;
  readonly #fromRaw = new Map<RawReason, number>(RAW_REASONS.map((reason) => [reason, 0]));

  get fromCells(): number {
    return this.#fromCells;
  }

  /** Questions that cells in memory did not answer. */
  get misses(): ReadonlyMap<CellsMiss, number> {
    return this.#misses;
  }

  get fromRollups(): number {
    return this.#fromRollups;
  }

  get repeated(): number {
    return this.#repeated;
  }

  get fromRaw(): ReadonlyMap<RawReason, number> {
    return this.#fromRaw;
  }

  answeredFromCells(): void {
    this.#fromCells += 1;
  }

  missedInCells(reason: CellsMiss): void {
    this.#misses.set(reason, (this.#misses.get(reason) ?? 0) + 1);
  }

  answeredFromRollups(): void {
    this.#fromRollups += 1;
  }

  answeredFromRaw(reason: RawReason): void {
    this.#fromRaw.set(reason, (this.#fromRaw.get(reason) ?? 0) + 1);
  }

  putAgain(): void {
    this.#repeated += 1;
  }
}
