import { EXCEPTIONS_FRESH_MS } from '../shared/metrics/exceptions.js';

/**
 * Whether the exceptions from the rollups are still those that an answer out of memory went by, without a question to ClickHouse for
 * each answer: while there are questions, it is asked twice a second.
 *
 * Invariant: what is said to be current was asked for no more than EXCEPTIONS_FRESH_MS ago, and behind every exception that the roller
 * of this instance had written for the commits that are in the answer (it tells of both in order: `excepted`). Whoever makes an exception
 * otherwise waits for longer before he changes what is counted (forget.ts).
 */

type AskFingerprint = (signal: AbortSignal) => Promise<string | undefined>;

/** While questions come. */
const PERIOD_MS = EXCEPTIONS_FRESH_MS / 2;
/** Without one for so long, nothing is asked any more. */
const REST_AFTER_MS = 60_000;
const TIMEOUT_MS = 5_000;

interface Seen {
  readonly fingerprint: string | undefined;
  /** When it was asked for, monotonic ms. */
  readonly at: number;
  /** What was known then of exceptions that the roller had written. */
  readonly excepted: number;
}

export class ExceptionsWatch {
  readonly #ask: AskFingerprint;
  #seen: Seen | undefined;
  #excepted = 0;
  #wantedAt = -Infinity;
  #isLooking = false;

  constructor(ask: AskFingerprint) {
    this.#ask = ask;
  }

  /** Rejects where ClickHouse had to be asked and does not answer. */
  async isCurrent(fingerprint: string, excepted: number, signal: AbortSignal): Promise<boolean> {
    this.#wantedAt = performance.now();
    this.#excepted = excepted;
    let seen = this.#seen;
    if (seen === undefined || seen.excepted !== excepted || performance.now() - seen.at > EXCEPTIONS_FRESH_MS)
      seen = await this.#look(signal);
    if (!this.#isLooking) this.#lookLater();
    return seen.fingerprint === fingerprint;
  }

  async #look(signal: AbortSignal): Promise<Seen> {
    const [at, excepted] = [performance.now(), this.#excepted];
    this.#seen = { fingerprint: await this.#ask(signal), at, excepted };
    return this.#seen;
  }

  async #again(): Promise<void> {
    await this.#look(AbortSignal.timeout(TIMEOUT_MS)).catch(() => {
      // The next question asks itself, and says what is wrong.
      this.#seen = undefined;
    });
    if (performance.now() - this.#wantedAt < REST_AFTER_MS) this.#lookLater();
    else this.#isLooking = false;
  }

  #lookLater(): void {
    this.#isLooking = true;
    setTimeout(() => void this.#again(), PERIOD_MS).unref();
  }
}
