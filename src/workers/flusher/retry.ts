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
  /** ClickHouse does not take one of the rows: the batch is taken apart until that row is alone. */
  | 'refused'
  /** ClickHouse cannot read what we sent: a fault of ours, for a person to look at. The segment is set aside whole. */
  | 'unreadable';

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

/** What a value, a constraint or a materialized view of the operator's can say to a row. */
const REFUSED = new Set([
  '6', // CANNOT_PARSE_TEXT
  '26', // CANNOT_PARSE_QUOTED_STRING
  '27', // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  '38', // CANNOT_PARSE_DATE
  '41', // CANNOT_PARSE_DATETIME
  '69', // ARGUMENT_OUT_OF_BOUND
  '70', // CANNOT_CONVERT_TYPE
  '72', // CANNOT_PARSE_NUMBER
  '128', // TOO_LARGE_ARRAY_SIZE
  '153', // ILLEGAL_DIVISION
  '321', // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  '349', // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  '395', // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
  '469', // VIOLATED_CONSTRAINT
]);

const UNREADABLE = new Set([
  '33', // CANNOT_READ_ALL_DATA
  '131', // TOO_LARGE_STRING_SIZE
]);

export function classify(error: unknown): Verdict {
  if (!(error instanceof ClickHouseError)) return 'retry';
  if (MISCONFIGURED.has(error.code)) return 'misconfigured';
  if (REFUSED.has(error.code)) return 'refused';
  if (UNREADABLE.has(error.code)) return 'unreadable';
  return 'retry';
}

const FIRST_MS = 100;
const CEILING_MS = 5_000;

/** How long to wait before attempt `attempt` (1 for the first repetition): doubled each time, then spread over ±25 %. */
export function backoffMs(attempt: number, random: number): number {
  const base = Math.min(CEILING_MS, FIRST_MS * 2 ** Math.min(attempt - 1, 20));
  return base * (0.75 + random / 2);
}
