import type { Parameters } from 'fast-check';

/**
 * How often a property is tried: `runs` times, multiplied by FAST_CHECK_RUNS (a factor) where that is set. A failure prints
 * seed and path; FAST_CHECK_SEED and FAST_CHECK_PATH replay it.
 */
export function tries<T>(runs: number): Parameters<T> {
  const { FAST_CHECK_RUNS: factor, FAST_CHECK_SEED: seed, FAST_CHECK_PATH: path } = process.env;
  return {
    numRuns: Math.max(1, Math.round(runs * Number(factor ?? 1))),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  };
}
