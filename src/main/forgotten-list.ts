import type { ClickHouseClient } from '@clickhouse/client';
import { clickHouseReason, tableName } from '../shared/clickhouse/client.js';
import { FORGOTTEN_MAX, FORGOTTEN_REFRESH_MS, ForgottenUsers } from '../shared/forgotten-users.js';
import type { Logger } from '../shared/log.js';

/**
 * Brings the list of forgotten users from ClickHouse to the encoders, at the start and every few seconds. While ClickHouse is away
 * it stays as it was: what gets in meanwhile is deleted later (`deleteForgotten`). A user who was taken off the list is taken
 * again by a new start.
 */

const TIMEOUT_MS = 5_000;

interface Deps {
  readonly client: ClickHouseClient;
  readonly database: string;
  /** Of ForgottenUsers. */
  readonly memory: SharedArrayBuffer;
  readonly log: Logger;
}

export class ForgottenList {
  readonly #deps: Deps;
  readonly #users: ForgottenUsers;
  #seen = '';
  #fault = '';
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#users = new ForgottenUsers(deps.memory);
  }

  /** Resolves when the list has been read, or could not be. */
  async start(): Promise<void> {
    try {
      await this.#refresh();
      this.#fault = '';
    } catch (error) {
      this.#failed(clickHouseReason(error));
    }
    if (!this.#stopped) this.#timer = setTimeout(() => void this.start(), FORGOTTEN_REFRESH_MS).unref();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #refresh(): Promise<void> {
    const list = tableName(this.#deps.database, 'forgotten_users');
    const [state] = await this.#rows(`SELECT count(), toString(max(at)) FROM ${list}`);
    const seen = JSON.stringify(state);
    if (seen === this.#seen) return;
    const rows = await this.#rows(
      `SELECT any(crc32), hex(hash) FROM ${list} GROUP BY hash ORDER BY min(at) DESC LIMIT ${FORGOTTEN_MAX + 1}`,
    );
    const hasAll = rows.every(([crc32, hash]) =>
      this.#users.add({ crc32: Number(crc32), hash: Buffer.from(String(hash), 'hex') }),
    );
    if (!hasAll) {
      const what = 'more users are forgotten than can be refused; what is sent of the others is deleted afterwards';
      this.#deps.log.warn({ max: FORGOTTEN_MAX }, what);
    }
    this.#seen = seen;
  }

  async #rows(query: string): Promise<(string | number)[][]> {
    const result = await this.#deps.client.query({
      query,
      format: 'JSONCompactEachRow',
      abort_signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return result.json();
  }

  #failed(reason: string): void {
    if (reason !== this.#fault && !this.#stopped)
      this.#deps.log.warn({ reason }, 'the list of forgotten users cannot be read');
    this.#fault = reason;
  }
}
