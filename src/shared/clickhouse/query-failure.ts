import { clickHouseErrorCode } from './client.js';

/**
 * What a SELECT that failed means for the one who asked: a pure table over the error's code (docs of ClickHouse,
 * `ErrorCodes.cpp`). The shipper has its own table, because an INSERT is judged by whether it may be repeated.
 */

export type QueryFailure =
  /** More time or memory than one query may have, or than there is just now. */
  | 'limit'
  /** More memory than one query may have, whatever else runs. */
  | 'memory'
  /** More rows or groups than one query may have, whatever else runs. */
  | 'size'
  /** ClickHouse runs as many queries as it wants to. */
  | 'busy'
  /** Refused until somebody mends the configuration. */
  | 'misconfigured'
  /** Not there, going, or a part of a cluster is. */
  | 'away'
  /** None of the above: a mistake of this program. */
  | 'ours';

/** Thrown in place of the error that giving up makes: the server took the query and never answered. */
export class QueryHangs extends Error {}

const MEANINGS: readonly (readonly [QueryFailure, readonly string[]])[] = [
  // TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
  ['limit', ['159', '160', '241', '307', '396']],
  // TOO_MANY_ROWS: of GROUP BY
  ['size', ['158']],
  // TOO_MANY_SIMULTANEOUS_QUERIES, QUOTA_EXCEEDED
  ['busy', ['202', '201']],
  // NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER, UNKNOWN_TABLE, UNKNOWN_DATABASE, UNKNOWN_SETTING, READONLY, UNKNOWN_USER,
  // WRONG_PASSWORD, REQUIRED_PASSWORD, SETTING_CONSTRAINT_VIOLATION, ACCESS_DENIED, AUTHENTICATION_FAILED
  ['misconfigured', ['16', '47', '60', '81', '115', '164', '192', '193', '194', '452', '497', '516']],
  // DNS_ERROR, SOCKET_TIMEOUT, NETWORK_ERROR, ABORTED, NO_ZOOKEEPER, ALL_CONNECTION_TRIES_FAILED, QUERY_WAS_CANCELLED,
  // CANNOT_SCHEDULE_TASK, KEEPER_EXCEPTION
  ['away', ['198', '209', '210', '236', '225', '279', '394', '439', '999']],
];

const BY_CODE: ReadonlyMap<string, QueryFailure> = new Map(
  MEANINGS.flatMap(([meaning, codes]) => codes.map((code) => [code, meaning] as const)),
);

export function classifyQueryFailure(error: unknown): QueryFailure {
  if (error instanceof QueryHangs) return 'away';
  const code = clickHouseErrorCode(error);
  if (code === undefined) return isBrokenConnection(error) ? 'away' : 'ours';
  if (code === MEMORY_LIMIT_EXCEEDED && isOfOneQuery(error)) return 'memory';
  if (/^\d+$/.test(code)) return BY_CODE.get(code) ?? 'ours';
  // A code of the system, of TLS or of the HTTP parser; those of misused functions begin with ERR_INVALID.
  return code.startsWith('ERR_INVALID') ? 'ours' : 'away';
}

/** One code for the limit of a query, of a user and of the server; in words it does not know, it may be load. */
const MEMORY_LIMIT_EXCEEDED = '241';

function isOfOneQuery(error: unknown): boolean {
  return error instanceof Error && (/query memory limit exceeded/i.test(error.message) || isOfOneQuery(error.cause));
}

/** The client library's own errors have no code, only these words. */
function isBrokenConnection(error: unknown): boolean {
  return error instanceof Error && /^timeout error|socket hang up|^the user aborted/i.test(error.message);
}
