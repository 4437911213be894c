import { RequestError } from '../shared/errors.js';

/**
 * Lets a bounded number of queries run at once and a bounded number wait in order of arrival; beyond that it refuses.
 * So that a burst of questions neither takes ClickHouse away from the inserts nor holds memory for answers nobody waits for.
 *
 * Invariant: `running` ≤ `concurrency`, `waiting` ≤ `queueMax`, and a query waits only while all places are taken.
 */

export interface QueryGateOptions {
  readonly concurrency: number;
  readonly queueMax: number;
  /** Longest wait for a place. */
  readonly waitMaxMs: number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

/** Weight of the newest query in the running mean of their durations. */
const MEAN_WEIGHT = 0.2;
/** What a query takes before one has been measured. */
const FIRST_GUESS_MS = 500;

interface Waiter {
  readonly admit: () => void;
}

export class QueryGate {
  #running = 0;
  #meanMs = FIRST_GUESS_MS;
  readonly #waiting = new Set<Waiter>();
  readonly #options: QueryGateOptions;
  readonly #now: () => number;

  constructor(options: QueryGateOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Whole seconds until a question asked now would have its turn, by what is waiting and how long queries take. */
  get retryAfterS(): number {
    const ahead = this.#running + this.#waiting.size;
    return Math.max(1, Math.ceil((ahead * this.#meanMs) / this.#options.concurrency / 1000));
  }

  /** Runs `query` when there is a place. Rejects with `overloaded`, or with the signal's reason if it aborts in the queue. */
  async run<T>(signal: AbortSignal, query: () => Promise<T>): Promise<T> {
    await this.#enter(signal);
    const start = this.#now();
    try {
      return await query();
    } finally {
      this.#meanMs += MEAN_WEIGHT * (this.#now() - start - this.#meanMs);
      this.#leave();
    }
  }

  #enter(signal: AbortSignal): Promise<void> {
    const { concurrency, queueMax, waitMaxMs } = this.#options;
    signal.throwIfAborted();
    if (this.#running < concurrency) {
      this.#running += 1;
      return Promise.resolve();
    }
    if (this.#waiting.size >= queueMax) return Promise.reject(this.#overloaded());
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#waiting.delete(waiter);
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        admit: () => {
          settle();
          resolve();
        },
      };
      const onAbort = (): void => {
        settle();
        reject(signal.reason as Error);
      };
      const timer = setTimeout(() => {
        settle();
        reject(this.#overloaded());
      }, waitMaxMs);
      signal.addEventListener('abort', onAbort);
      this.#waiting.add(waiter);
    });
  }

  /** The place goes to the one who has waited longest; `running` stays as it is then. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#running -= 1;
    else next.admit();
  }

  #overloaded(): RequestError {
    return new RequestError('overloaded', 'too many metrics queries at once', { retryAfterS: this.retryAfterS });
  }
}
