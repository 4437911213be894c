/**
 * What is kept, with `PENSTOCK_RETENTION_DAYS`: the UTC day of now and so many days before it. What is older is refused, not
 * counted, and deleted. All of them ask here, so that an event which was accepted counts.
 */

const DAY_MS = 86_400_000;

/** The first UTC day that is kept, in days since 1970; undefined where everything is. */
export function retentionEdgeDay(retentionDays: number | undefined, nowMs: number): number | undefined {
  return retentionDays === undefined ? undefined : Math.floor(nowMs / DAY_MS) - retentionDays;
}

/** Unix ms from which events are kept; -Infinity where all are. */
export function retentionEdgeMs(retentionDays: number | undefined, nowMs: number): number {
  const day = retentionEdgeDay(retentionDays, nowMs);
  return day === undefined ? -Infinity : day * DAY_MS;
}

/** The same in Unix seconds; undefined where everything is kept. */
export function retentionEdgeS(retentionDays: number | undefined, nowMs: number): number | undefined {
  const day = retentionEdgeDay(retentionDays, nowMs);
  return day === undefined ? undefined : (day * DAY_MS) / 1000;
}
