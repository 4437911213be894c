/**
 * Every error that an HTTP client can be answered with: a stable `code`, its status, and whether a retry can mend it.
 * This table is the only place that maps an error to a status.
 */
const ERRORS = {
  validation_error: { status: 400, retryable: false },
  timestamp_too_old: { status: 400, retryable: false },
  user_forgotten: { status: 400, retryable: false },
  query_too_costly: { status: 400, retryable: false },
  unauthorized: { status: 401, retryable: false },
  forbidden: { status: 403, retryable: false },
  not_found: { status: 404, retryable: false },
  method_not_allowed: { status: 405, retryable: false },
  payload_too_large: { status: 413, retryable: false },
  unsupported_encoding: { status: 415, retryable: false },
  rate_limited: { status: 429, retryable: true },
  internal_error: { status: 500, retryable: true },
  overloaded: { status: 503, retryable: true },
  log_full: { status: 503, retryable: true },
  disk_full: { status: 503, retryable: true },
  log_failed: { status: 503, retryable: true },
  encoder_failed: { status: 503, retryable: true },
  draining: { status: 503, retryable: true },
  clickhouse_unavailable: { status: 503, retryable: true },
  query_limit: { status: 503, retryable: true },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** One violated rule: `path` is a JSON pointer into what was sent, `message` the rule in words. */
export interface ErrorDetail {
  readonly path: string;
  readonly message: string;
}

/** The body of every answer that is not a success (api.md). */
export interface ErrorBody {
  readonly error: string;
  readonly code: ErrorCode;
  readonly details?: readonly ErrorDetail[];
}

export function statusOf(code: ErrorCode): number {
  return ERRORS[code].status;
}

export function isRetryable(code: ErrorCode): boolean {
  return ERRORS[code].retryable;
}

/** Every code, in the order of their statuses. */
export const ERROR_CODES = Object.keys(ERRORS).filter(isErrorCode);

function isErrorCode(value: string): value is ErrorCode {
  return Object.hasOwn(ERRORS, value);
}

/** Thrown where a request cannot be served; the route turns it into an answer with `reply.ts`. */
export class RequestError extends Error {
  readonly code: ErrorCode;
  readonly details: readonly ErrorDetail[] | undefined;
  /** Whole seconds for `Retry-After`; set for every retryable code. */
  readonly retryAfterS: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { details?: readonly ErrorDetail[]; retryAfterS?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'RequestError';
    this.code = code;
    this.details = options.details;
    this.retryAfterS = options.retryAfterS;
  }

  /** From a decision that was made without throwing. */
  static of(refusal: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly retryAfterS: number;
  }): RequestError {
    return new RequestError(refusal.code, refusal.message, { retryAfterS: refusal.retryAfterS });
  }

  get status(): number {
    return statusOf(this.code);
  }

  body(): ErrorBody {
    return this.details === undefined
      ? { error: this.message, code: this.code }
      : { error: this.message, code: this.code, details: this.details };
  }
}

/** The message of anything thrown, for logs. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** No space, or none that this user may take: a state of the disk that passes. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}
