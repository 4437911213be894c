/** Upper bounds in seconds. */
export const LATENCY_BOUNDS_S = [
  0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

/** From a request's head to its 202, counted on main; cheap enough to be counted for every request. */
export class LatencyHistogram {
  /** Requests at most as slow as each bound and slower than the one before; the last holds the rest. */
  readonly counts = new Float64Array(LATENCY_BOUNDS_S.length + 1);
  sumS = 0;

  observe(seconds: number): void {
    let i = 0;
    while (i < LATENCY_BOUNDS_S.length && seconds > (LATENCY_BOUNDS_S[i] ?? 0)) i += 1;
    this.counts[i] = (this.counts[i] ?? 0) + 1;
    this.sumS += seconds;
  }
}
