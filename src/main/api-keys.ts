import type { HttpRequest } from 'uWebSockets.js';
import type { ApiKey } from '../shared/config.js';
import { RequestError } from '../shared/errors.js';

/** Who may do what, where keys are configured: `Authorization: Bearer KEY` or `X-API-Key: KEY`. */

/** One key's allowance of events: a bucket that holds one second's worth and may be overdrawn by one bulk body. */
export class ApiKeyState {
  readonly scopes: readonly string[];
  readonly #eventsPerSecond: number | undefined;
  #tokens: number;
  #filledAt = performance.now();

  constructor({ scopes, eventsPerSecond }: ApiKey) {
    this.scopes = scopes;
    this.#eventsPerSecond = eventsPerSecond;
    this.#tokens = eventsPerSecond ?? 0;
  }

  /** Seconds until this key may send again; 0 where it may now. */
  waitS(): number {
    if (this.#eventsPerSecond === undefined) return 0;
    const now = performance.now();
    const earned = ((now - this.#filledAt) / 1000) * this.#eventsPerSecond;
    this.#tokens = Math.min(this.#eventsPerSecond, this.#tokens + earned);
    this.#filledAt = now;
    return this.#tokens >= 1 ? 0 : (1 - this.#tokens) / this.#eventsPerSecond;
  }

  /** Counts events that were read; what a bulk body overdraws is waited for by the next request. */
  spend(events: number): void {
    if (this.#eventsPerSecond !== undefined) this.#tokens -= events;
  }
}

export class ApiKeys {
  readonly #keys: ReadonlyMap<string, ApiKeyState>;

  constructor(keys: readonly ApiKey[]) {
    this.#keys = new Map(keys.map((key) => [key.key, new ApiKeyState(key)]));
  }

  /** The request's key; undefined where none are configured. Throws the refusal. */
  authorize(req: HttpRequest, scope: 'write' | 'read'): ApiKeyState | undefined {
    if (this.#keys.size === 0) return undefined;
    const given = bearer(req.getHeader('authorization')) ?? req.getHeader('x-api-key');
    if (given === '') {
      throw new RequestError('unauthorized', 'an API key is required: Authorization: Bearer KEY, or X-API-Key: KEY');
    }
    const state = this.#keys.get(given);
    if (state === undefined) throw new RequestError('unauthorized', 'this API key is not known');
    if (!state.scopes.includes(scope))
      throw new RequestError('forbidden', `this API key does not have the scope ${scope}`);
    return state;
  }
}

function bearer(header: string): string | undefined {
  return /^bearer +(\S+)$/i.exec(header)?.[1];
}
