/** Levels of `rollup`. */
export const LEVEL = {
  /** The roller's count of its commits. */
  commits: 0,
  minute: 1,
  hour: 2,
  day: 3,
  fiveDays: 4,
  /** The generation that a rebuilt day counts in. */
  generation: 5,
} as const;
