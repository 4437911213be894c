import type { ShippedBatch } from '../../shared/channel.js';

/**
 * Which of this instance's segments are in the rollup: `as_of` moves with them. The first announcement tells of everything
 * shipped before it, which counts as rolled when the roller has caught up; the others are counted by their batches.
 */
export class Shipped {
  readonly #onThrough: (ordinal: number) => void;
  /** Ascending; with the tokens that are not rolled yet. */
  readonly #segments: { readonly ordinal: number; readonly open: Set<string> }[] = [];
  #first: number | undefined;
  #ready = false;

  constructor(onThrough: (ordinal: number) => void) {
    this.#onThrough = onThrough;
  }

  announce(ordinal: number, batches: readonly ShippedBatch[]): void {
    if (this.#first === undefined) {
      this.#first = ordinal;
      return;
    }
    this.#segments.push({ ordinal, open: new Set(batches.map(({ token }) => token)) });
    this.#advance();
  }

  rolled(tokens: readonly string[]): void {
    for (const { open } of this.#segments) for (const token of tokens) open.delete(token);
    this.#advance();
  }

  /** Everything that was in ClickHouse at the first announcement is rolled. */
  caughtUp(): void {
    this.#ready = true;
    if (this.#first !== undefined) this.#onThrough(this.#first);
    this.#advance();
  }

  #advance(): void {
    if (!this.#ready) return;
    let through: number | undefined;
    while (this.#segments[0]?.open.size === 0) through = this.#segments.shift()?.ordinal;
    if (through !== undefined) this.#onThrough(through);
  }
}
