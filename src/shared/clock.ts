/**
 * Arrival times: what orders two versions of one event (`received_at`) must be unique within the process and must not run
 * backwards when the host clock does. Durations elsewhere come from `performance.now()`.
 */

/** Beyond this the host clock was set (or the machine slept), and the wall clock is believed again. */
const STEP_US = 1_000_000;

export class ArrivalClock {
  #originUs = performance.timeOrigin * 1000;
  #nowUs = 0;
  #last = 0;

  /** Reads the clocks; once per event-loop turn is enough. */
  refresh(): void {
    const monotonicUs = performance.now() * 1000;
    const wallUs = Date.now() * 1000;
    if (Math.abs(this.#originUs + monotonicUs - wallUs) > STEP_US) this.#originUs = wallUs - monotonicUs;
    this.#nowUs = Math.round(this.#originUs + monotonicUs);
  }

  /** Unix microseconds, later than every value before it: a clock set back is walked over 1 µs at a time. */
  next(): number {
    this.#last = this.#nowUs > this.#last ? this.#nowUs : this.#last + 1;
    return this.#last;
  }
}

/** Ms on a clock that nobody sets and that all threads share: `performance.now()` starts anew in each of them. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
