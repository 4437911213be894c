import { LOG_STATE } from '../shared/channel.js';
import type { ErrorCode } from '../shared/errors.js';

/**
 * Whether one more event request may come in: a pure function of the state. A refusal carries the time after which a retry
 * has a chance, from what stands in the way and how fast it goes away.
 */
export interface AdmissionState {
  readonly draining: boolean;
  /** LOG_STATE. */
  readonly logState: number;
  readonly walBytes: number;
  readonly walMaxBytes: number;
  /** Bytes a second that ClickHouse has been taking lately; 0 where nothing was shipped yet. */
  readonly shipBytesPerSecond: number;
  readonly openRequests: number;
  readonly maxRequests: number;
  readonly bodyBytes: number;
  readonly maxBodyBytes: number;
  /** Requests answered a second lately. */
  readonly answersPerSecond: number;
  /** Seconds until the process ends at the latest, while draining. */
  readonly drainSecondsLeft: number;
}

export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retryAfterS: number;
}

const RETRY_MAX_S = 600;
/** Overload passes: however slow the last seconds were, a client need not stay away longer. */
const OVERLOAD_RETRY_MAX_S = 30;
/** Assumed where nothing is known yet, or the last second was a stall. */
const SLOWEST_ANSWERS_PER_SECOND = 100;
/** Assumed where nothing was shipped yet: a tenth of what one ClickHouse takes. */
const UNKNOWN_SHIP_BYTES_PER_SECOND = 10 * 1024 * 1024;

export function admit(state: AdmissionState): Refusal | undefined {
  if (state.draining) {
    return refusal('draining', 'the instance is shutting down', state.drainSecondsLeft);
  }
  if (state.logState === LOG_STATE.diskFull) {
    return refusal('disk_full', 'the disk of the write-ahead log is full', shippingSeconds(state, state.walBytes));
  }
  if (state.logState !== LOG_STATE.ok) {
    return refusal('log_failed', 'the write-ahead log cannot be written', shippingSeconds(state, state.walBytes));
  }
  const excess = state.walBytes + state.bodyBytes - state.walMaxBytes;
  if (excess >= 0) {
    // Room comes a segment at a time: what has to go is the backlog, not the last byte of it.
    return refusal('log_full', 'the write-ahead log is at its limit', shippingSeconds(state, state.walBytes));
  }
  if (state.openRequests >= state.maxRequests || state.bodyBytes >= state.maxBodyBytes) {
    return overloaded(state);
  }
  return undefined;
}

/** For what found no room on its way to an encoder. */
export function overloaded(state: AdmissionState): Refusal {
  return refusal(
    'overloaded',
    'more requests are waiting than can be answered soon',
    Math.min(OVERLOAD_RETRY_MAX_S, state.openRequests / Math.max(SLOWEST_ANSWERS_PER_SECOND, state.answersPerSecond)),
  );
}

function shippingSeconds(state: AdmissionState, bytes: number): number {
  return bytes / (state.shipBytesPerSecond > 0 ? state.shipBytesPerSecond : UNKNOWN_SHIP_BYTES_PER_SECOND);
}

function refusal(code: ErrorCode, message: string, seconds: number): Refusal {
  return { code, message, retryAfterS: Math.min(RETRY_MAX_S, Math.max(1, Math.ceil(seconds))) };
}
