import { type ClickHouseClient, ClickHouseError, ClickHouseLogLevel, createClient } from '@clickhouse/client';

/**
 * The one way to ClickHouse: metrics, migrations and the shipper each make their client here.
 *
 * A client has no session database, because a session in a database that does not exist cannot even create it. Statements
 * name their tables in full: `tableName(database, 'events')`. (`{database:Identifier}` would do, but for names with a
 * backslash in them, and not in a view.)
 * The client library's own console logging is off: callers log what they catch. Nothing here puts the password, or a URL that
 * may hold one, into a message.
 */

export interface ClickHouseOptions {
  /** `http://host:port` or `https://host:port`, with a path where a proxy wants one, without credentials. */
  readonly url: string;
  readonly user: string;
  readonly password: string;
  /** Ends a request that got no answer for this long; longer than the server's own limit for the query. */
  readonly requestTimeoutMs: number;
  readonly maxOpenConnections: number;
}

/** A health check that takes longer than this counts as failed. */
const HEALTH_TIMEOUT_MS = 2_000;

/** Longest reason that is passed on from a server's message, in UTF-16 units. */
const REASON_MAX_CHARS = 300;

export function createClickHouse(options: ClickHouseOptions): ClickHouseClient {
  const { origin, pathname } = parseUrl(options.url);
  return createClient({
    url: origin,
    // The library would take a path in the URL for a database; here it is the path of a proxy.
    ...(pathname === '/' ? {} : { pathname }),
    username: options.user,
    password: options.password,
    application: 'penstock',
    request_timeout: options.requestTimeoutMs,
    max_open_connections: options.maxOpenConnections,
    // A busy event loop may miss the timer that drops an idle socket; without this the next request gets a dead one.
    keep_alive: { enabled: true, eagerly_destroy_stale_sockets: true },
    log: { level: ClickHouseLogLevel.OFF },
  });
}

function parseUrl(text: string): URL {
  // `new URL` keeps its input on the error it throws, and the input may hold a password: hence an error of our own, no cause.
  if (!URL.canParse(text)) throw new Error('the ClickHouse URL is not a URL');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new Error(`the ClickHouse URL must begin with http:// or https://, not ${url.protocol}//`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new Error('the ClickHouse URL must not hold a user or password: they have settings of their own');
  }
  if (url.search !== '' || url.hash !== '') throw new Error('the ClickHouse URL must not hold a query or fragment');
  return url;
}

/** An identifier as SQL text, whatever is in it. */
export function quoteIdentifier(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;
}

/** A table's full name as SQL text. */
export function tableName(database: string, table: string): string {
  return `${quoteIdentifier(database)}.${quoteIdentifier(table)}`;
}

/** ClickHouse's numeric code (a string, as in the error or its cause), or the system's (`ECONNREFUSED`), or undefined. */
export function clickHouseErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof ClickHouseError) return error.code;
  if ('code' in error && typeof error.code === 'string') return error.code;
  return clickHouseErrorCode(error.cause);
}

/** One line that says what failed: for logs and readiness details, not for clients of the public API. */
export function clickHouseReason(error: unknown): string {
  return reasonOf(error).slice(0, REASON_MAX_CHARS);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Connecting to a name with several addresses fails with an AggregateError, which has no message of its own.
  const message = (error.message || messageOfFirst(error)).split('\n', 1)[0] ?? '';
  if (error instanceof ClickHouseError) return `ClickHouse error ${error.code}: ${message}`;
  if (error.cause !== undefined) return `${message}: ${reasonOf(error.cause)}`;
  return message || (clickHouseErrorCode(error) ?? error.name);
}

function messageOfFirst(error: Error): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : undefined;
  return first instanceof Error ? first.message : '';
}

/**
 * Asks for an answer that needs the user and password to be right (`/ping` does not). Returns why that failed, or undefined.
 * Never throws and never takes longer than `timeoutMs`.
 */
export async function checkHealth(
  client: ClickHouseClient,
  timeoutMs: number = HEALTH_TIMEOUT_MS,
): Promise<string | undefined> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const result = await client.query({ query: 'SELECT 1', format: 'TabSeparated', abort_signal: signal });
    await result.text();
    return undefined;
  } catch (error) {
    return signal.aborted ? `no answer within ${timeoutMs} ms` : clickHouseReason(error);
  }
}
