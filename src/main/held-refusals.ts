import type { HttpResponse } from 'uWebSockets.js';
import type { ErrorCode, RequestError } from '../shared/errors.js';
import { sendError } from './reply.js';

/**
 * Refusals that say "later", sent no faster than a share of what is answered: one costs main nearly as much as a 202, and clients that try
 * again at once would otherwise take the processor from those that are let in. What is beyond that is held for a moment, oldest first;
 * its client waits meanwhile, which is what it was to do.
 *
 * Invariant 4: bounded in number and in time. Of more than that, the oldest is sent at once.
 */
export interface HeldRefusalsOptions {
  /** Requests answered a second lately. */
  readonly answersPerSecond: () => number;
  readonly heldMax?: number;
  readonly holdMaxMs?: number;
}

/** A retry can mend these, and nothing but time does. */
const HELD: ReadonlySet<ErrorCode> = new Set(['overloaded', 'log_full', 'disk_full', 'log_failed', 'rate_limited']);
/** Refusals a second that go out at once, whatever is answered beside them. */
const PER_SECOND_MIN = 500;
/** Of what is answered, beyond that. */
const SHARE = 0.1;
/** Refusals of so many seconds go out at once after a quiet moment. */
const BURST_S = 0.1;
const TICK_MS = 10;
/** About half a kilobyte each, with what uWebSockets.js keeps. */
const HELD_MAX = 16_384;
/** Shorter than any client waits for an answer. */
const HOLD_MAX_MS = 2_000;

interface Held {
  readonly res: HttpResponse;
  readonly error: RequestError;
  readonly sinceMs: number;
  /** The client has hung up. */
  gone: boolean;
}

export class HeldRefusals {
  readonly #options: HeldRefusalsOptions;
  readonly #heldMax: number;
  readonly #holdMaxMs: number;
  #held: Held[] = [];
  /** Of the oldest in `#held`. */
  #first = 0;
  /** Refusals that may go out now; ms on the monotonic clock when that was. */
  #budget = PER_SECOND_MIN * BURST_S;
  #budgetAt = performance.now();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HeldRefusalsOptions) {
    this.#options = options;
    this.#heldMax = options.heldMax ?? HELD_MAX;
    this.#holdMaxMs = options.holdMaxMs ?? HOLD_MAX_MS;
  }

  /** Refusals that wait, those of clients that have gone included. */
  get count(): number {
    return this.#held.length - this.#first;
  }

  /** Answers now or a little later. Whatever was set for the response being aborted is replaced. */
  send(res: HttpResponse, error: RequestError): void {
    if (!HELD.has(error.code)) {
      sendError(res, error);
      return;
    }
    const now = performance.now();
    this.#earn(now);
    if (this.count === 0 && this.#budget >= 1) {
      this.#budget -= 1;
      sendError(res, error);
      return;
    }
    const held: Held = { res, error, sinceMs: now, gone: false };
    res.onAborted(() => {
      held.gone = true;
    });
    this.#held.push(held);
    if (this.count > this.#heldMax) this.#sendOldest();
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  /** Sends all that wait: the process ends. */
  releaseAll(): void {
    while (this.count > 0) this.#sendOldest();
    this.#rest();
  }

  #tick(): void {
    const now = performance.now();
    this.#earn(now);
    for (let oldest = this.#held[this.#first]; oldest !== undefined; oldest = this.#held[this.#first]) {
      if (this.#budget < 1 && now - oldest.sinceMs < this.#holdMaxMs) break;
      if (!oldest.gone) this.#budget = Math.max(0, this.#budget - 1);
      this.#sendOldest();
    }
    if (this.count === 0) this.#rest();
    else this.#compact();
  }

  #earn(now: number): void {
    const perSecond = Math.max(PER_SECOND_MIN, SHARE * this.#options.answersPerSecond());
    const earned = ((now - this.#budgetAt) / 1000) * perSecond;
    this.#budget = Math.min(perSecond * BURST_S, this.#budget + earned);
    this.#budgetAt = now;
  }

  #sendOldest(): void {
    const oldest = this.#held[this.#first];
    this.#first += 1;
    if (oldest?.gone === false) sendError(oldest.res, oldest.error);
  }

  #compact(): void {
    if (this.#first < this.#held.length / 2) return;
    this.#held = this.#held.slice(this.#first);
    this.#first = 0;
  }

  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#held = [];
    this.#first = 0;
  }
}
