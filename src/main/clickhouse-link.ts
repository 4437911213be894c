import type { ClickHouseClient } from '@clickhouse/client';
import { checkHealth, clickHouseReason, createClickHouse } from '../shared/clickhouse/client.js';
import type { EmbeddedClickHouse } from '../shared/clickhouse/embedded/launcher.js';
import { migrateUp, NewerSchemaError } from '../shared/clickhouse/migrations.js';
import { checkSchema } from '../shared/clickhouse/schema-check.js';
import type { Config } from '../shared/config.js';
import { type Counters, SHIP_STATE } from '../shared/counters.js';
import type { Logger } from '../shared/log.js';
import type { ClickHouseAccess, Flusher } from './flusher.js';

/**
 * Main's view of ClickHouse: starts the embedded one where none is configured, brings the schema up to date, starts the
 * shipper when there is something to ship to, and knows whether ClickHouse is well. ClickHouse being away never stops the
 * process from starting: the log takes the events until it is back.
 */

const HEALTH_INTERVAL_MS = 2_000;
const PREPARE_PAUSE_MS = { first: 250, max: 5_000 } as const;
/** Beside the queries themselves: the health check and migrations. */
const SPARE_CONNECTIONS = 2;

export class ClickHouseLink {
  readonly access: ClickHouseAccess;
  readonly client: ClickHouseClient;
  readonly #embedded: EmbeddedClickHouse | undefined;
  readonly #flusher: Flusher;
  readonly #counters: Counters;
  readonly #log: Logger;
  #fault: string | undefined = 'not reached yet';
  #prepared = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(
    access: ClickHouseAccess,
    embedded: EmbeddedClickHouse | undefined,
    config: Config,
    flusher: Flusher,
    counters: Counters,
    log: Logger,
  ) {
    this.access = access;
    this.#embedded = embedded;
    this.#flusher = flusher;
    this.#counters = counters;
    this.#log = log;
    this.client = createClickHouse({
      url: access.url,
      user: access.user,
      password: access.password,
      // ClickHouse ends a question itself after metricsTimeoutMs; this is for one that does not answer at all.
      requestTimeoutMs: config.metricsTimeoutMs + 5_000,
      maxOpenConnections: config.metricsConcurrency + SPARE_CONNECTIONS,
    });
  }

  static async open(config: Config, flusher: Flusher, counters: Counters, log: Logger): Promise<ClickHouseLink> {
    const { clickhouseUrl, clickhouseUser: user, clickhousePassword: password, clickhouseDatabase: database } = config;
    const common = { database, requestTimeoutMs: config.clickhouseTimeoutMs };
    if (clickhouseUrl !== undefined) {
      return new ClickHouseLink(
        { ...common, url: clickhouseUrl, user, password: password ?? '' },
        undefined,
        config,
        flusher,
        counters,
        log,
      );
    }
    // Loaded here only: with a URL, neither the library nor its binding need be installed.
    const { startEmbedded } = await import('../shared/clickhouse/embedded/launcher.js');
    const embedded = await startEmbedded({ dataDir: config.dataDir, user, password, database, log });
    const access = { ...common, url: embedded.url, user: embedded.user, password: embedded.password };
    return new ClickHouseLink(access, embedded, config, flusher, counters, log);
  }

  /** Why ClickHouse does not take or answer now; undefined where it does. */
  get fault(): string | undefined {
    if (this.#fault !== undefined) return this.#fault;
    switch (this.#counters.get('shipState')) {
      case SHIP_STATE.ok:
        return undefined;
      case SHIP_STATE.retrying:
        return 'segments are not confirmed, they are sent again';
      default:
        return 'segments are refused; see the log for what has to be mended';
    }
  }

  /**
   * Tries once to bring the schema up to date and to start the shipper; goes on trying behind the caller's back where
   * ClickHouse is away. Throws only where waiting cannot help: the database is of a newer release.
   */
  async prepare(): Promise<void> {
    await this.#tryPrepare();
    let pauseMs: number = PREPARE_PAUSE_MS.first;
    const tick = async (): Promise<void> => {
      if (this.#prepared) await this.#checkHealth();
      else
        await this.#tryPrepare().catch((error: unknown) =>
          this.#log.error({ err: error }, 'the schema cannot be brought up to date'),
        );
      pauseMs = this.#prepared ? HEALTH_INTERVAL_MS : Math.min(PREPARE_PAUSE_MS.max, pauseMs * 2);
      if (!this.#closed) this.#timer = setTimeout(() => void tick(), pauseMs).unref();
    };
    this.#timer = setTimeout(() => void tick(), pauseMs).unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.client.close();
    await this.#embedded?.stop();
  }

  async #tryPrepare(): Promise<void> {
    const { database } = this.access;
    try {
      await migrateUp(this.client, database, this.#log);
      const faults = await checkSchema(this.client, database);
      if (faults.length > 0) throw new Error(`the table events is not as it must be: ${faults.join('; ')}`);
    } catch (error) {
      if (error instanceof NewerSchemaError) throw error;
      const reason = clickHouseReason(error);
      if (reason !== this.#fault)
        this.#log.warn({ reason }, 'ClickHouse is not ready; events are kept in the log until it is');
      this.#fault = reason;
      return;
    }
    this.#prepared = true;
    this.#fault = undefined;
    if (!this.#closed) this.#flusher.startShipper(this.access);
  }

  async #checkHealth(): Promise<void> {
    const fault = await checkHealth(this.client);
    if (fault !== undefined && this.#fault === undefined)
      this.#log.warn({ reason: fault }, 'ClickHouse does not answer');
    if (fault === undefined && this.#fault !== undefined) this.#log.info('ClickHouse answers again');
    this.#fault = fault;
  }
}
