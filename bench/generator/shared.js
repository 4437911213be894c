/** What generator threads and their coordinator share, each slot named once. */

/** Of the pacer's memory, Int32. */
export const TICK_SLOT = { tick: 0, stop: 1, slots: 2 };

/** The pacer: never more often than `minMs`, about every `unheardMs` while nobody waits; after a stall of `skipMs` it leaves out what it missed. */
export const TICKS = { minMs: 0.25, unheardMs: 2, skipMs: 20 };

/**
 * Counted by each generator as it goes, Float64, read by the coordinator at any time: for the progress line, and for the
 * events that belong to a span of CPU time.
 */
export const COUNT = { requests: 0, events: 1, refused: 2, lost: 3, failed: 4, slots: 8 };

const offsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** Milliseconds on a clock that all threads of the machine share. */
export function nowMs() {
  return performance.now() + offsetMs;
}

/** µs up to a minute, to three digits: Node's own HDR histogram. */
export const HISTOGRAM = { lowest: 1, highest: 60_000_000, figures: 3 };
