import { ClickHouseError } from '@clickhouse/client';

/**
 * What to do with a segment whose INSERT failed: a pure table over the error's code (findings.md, "Client"). Whether the
 * INSERT took effect is never asked: the same bytes under the same token are sent again, and count once either way.
 */

export type Verdict =
  /** Busy, away or in doubt: the same again after a pause. */
  | 'retry'
  /** Nothing but a person can mend it: the same again, rarely, and say so in the log and in readiness. */
  | 'misconfigured'
  /** The server cannot take what we sent. */
  | 'rejected';

const MISCONFIGURED = new Set([
  '16', // NO_SUCH_COLUMN_IN_TABLE
  '60', // UNKNOWN_TABLE
  '62', // SYNTAX_ERROR
  '81', // UNKNOWN_DATABASE
  '115', // UNKNOWN_SETTING
  '164', // READONLY
  '192', // UNKNOWN_USER
  '193', // WRONG_PASSWORD
  '194', // REQUIRED_PASSWORD
  '242', // TABLE_IS_READ_ONLY
  '497', // ACCESS_DENIED
  '516', // AUTHENTICATION_FAILED
]);

const REJECTED = new Set([
  '33', // CANNOT_READ_ALL_DATA
  '41', // CANNOT_PARSE_DATETIME
  '131', // TOO_LARGE_STRING_SIZE
  '469', // VIOLATED_CONSTRAINT
]);

export function classify(error: unknown): Verdict {
  if (!(error instanceof ClickHouseError)) return 'retry';
  if (MISCONFIGURED.has(error.code)) return 'misconfigured';
  if (REJECTED.has(error.code)) return 'rejected';
  return 'retry';
}

const FIRST_MS = 100;
const CEILING_MS: Readonly<Record<Verdict, number>> = { retry: 5_000, misconfigured: 5_000, rejected: 30_000 };

/** How long to wait before attempt `attempt` (1 for the first repetition): doubled each time, then spread over ±25 %. */
export function backoffMs(verdict: Verdict, attempt: number, random: number): number {
  const base = Math.min(CEILING_MS[verdict], FIRST_MS * 2 ** Math.min(attempt - 1, 20));
  return base * (0.75 + random / 2);
}
