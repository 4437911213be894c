import { randomBytes } from 'node:crypto';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { MINUTES_OF_DAY } from './deltas.js';
import { LEVEL } from './level.js';
import { BinaryReader, readBinary } from '../../shared/clickhouse/binary.js';

/** Days (of an event name; '' is all names) that the rollup must not answer for until they are rebuilt, and the generations of those that were. */
export interface DayException {
  readonly eventName: string;
  readonly day: number;
  readonly request: bigint;
}

/** `day` of the exception that says that there are more event names than are rolled. */
const ALL_DAYS = 4_294_967_295;
/** Of these there is no rebuilding. */
export const LASTING_REASONS = { names: 'names', users: 'users' } as const;
const LASTING_REQUEST = 1n;

export class Exceptions {
  readonly #client: ClickHouseClient;
  readonly #table: string;
  readonly #rollup: string;
  readonly #signal: AbortSignal;
  readonly #generations = new Map<string, number>();
  #open: DayException[] = [];
  /** More event names than are rolled have come. */
  namesOverflow = false;
  /** Called when exceptions have been written that a commit is about to make necessary. */
  onRaised = (): void => undefined;

  constructor(client: ClickHouseClient, database: string, signal: AbortSignal) {
    this.#client = client;
    this.#table = tableName(database, 'rollup_exceptions');
    this.#rollup = tableName(database, 'rollup');
    this.#signal = signal;
  }

  /** Days that are to be rebuilt. */
  get open(): readonly DayException[] {
    return this.#open;
  }

  readonly generationOf = (eventName: string, day: number): number =>
    this.#generations.size === 0 ? 0 : (this.#generations.get(`${day} ${eventName}`) ?? 0);

  /** The generations that count on a day, by event name; those that are not there have 0. */
  generationsOf(day: number): Map<string, number> {
    const all = new Map<string, number>();
    for (const [key, generation] of this.#generations) {
      const [ofDay = '', ...name] = key.split(' ');
      const eventName = name.join(' ');
      if (Number(ofDay) === day && eventName !== '' && generation > 0) all.set(eventName, generation);
    }
    return all;
  }

  /**
   * What has been committed: the generations that count come from `rollup` itself, with the commit that made them, and are read
   * only when everything else that is remembered is read anew.
   */
  async reset(): Promise<void> {
    const query = `SELECT event_name::String, bucket, toInt64(max(generation)) FROM ${this.#rollup}
      WHERE level = ${LEVEL.generation} GROUP BY event_name, bucket FORMAT RowBinary`;
    const reader = new BinaryReader(await readBinary(this.#client, query, this.#signal));
    this.#generations.clear();
    while (!reader.done) {
      const eventName = reader.string();
      this.#generations.set(`${reader.uint32()} ${eventName}`, reader.int64());
    }
    await this.refresh();
  }

  /** What there is to rebuild. */
  async refresh(): Promise<void> {
    const query = `SELECT event_name, day, request, any(reason), max(wanted) FROM ${this.#table}
      GROUP BY event_name, day, request HAVING max(done) = 0 FORMAT RowBinary`;
    const reader = new BinaryReader(await readBinary(this.#client, query, this.#signal));
    this.#open = [];
    this.namesOverflow = false;
    while (!reader.done) {
      const eventName = reader.string();
      const day = reader.uint32();
      const request = reader.uint64();
      const reason = reader.string();
      const wanted = reader.uint8() === 1;
      if (reason === LASTING_REASONS.names) this.namesOverflow = true;
      // One that is held is rebuilt when whoever holds it says so.
      else if (wanted && reason !== LASTING_REASONS.users) this.#open.push({ eventName, day, request });
    }
  }

  /** From now on, questions that touch these days are answered from raw rows, and so for all names. */
  async raise(days: Iterable<{ readonly eventName: string; readonly day: number }>, reason: string): Promise<void> {
    const lasting = reason === LASTING_REASONS.users;
    const rows: DayException[] = [];
    for (const { eventName, day } of days) {
      for (const name of ['', eventName]) {
        rows.push({ eventName: name, day, request: lasting ? LASTING_REQUEST : newRequest() });
      }
    }
    await this.#insert(rows, { reason, done: 0, generation: 0 });
    if (!lasting) this.#open.push(...rows);
    this.onRaised();
  }

  async raiseNames(): Promise<void> {
    const row = { eventName: '', day: ALL_DAYS, request: LASTING_REQUEST };
    await this.#insert([row], { reason: LASTING_REASONS.names, done: 0, generation: 0 });
    this.namesOverflow = true;
    this.onRaised();
  }

  /** From this roller's commit on, the cells of these days count in a new generation. */
  renew(days: readonly DayException[], generation: number): void {
    for (const { eventName, day } of days) this.#generations.set(`${day} ${eventName}`, generation);
  }

  /** These requests are met by cells of `generation`. */
  async resolve(requests: readonly DayException[], generation: number): Promise<void> {
    await this.#insert(requests, { reason: '', done: 1, generation });
    const met = new Set(requests);
    this.#open = this.#open.filter((request) => !met.has(request));
  }

  async #insert(
    rows: readonly DayException[],
    state: { readonly reason: string; readonly done: number; readonly generation: number },
  ): Promise<void> {
    if (rows.length === 0) return;
    await this.#client.insert({
      table: this.#table,
      format: 'JSONEachRow',
      values: rows.map(({ eventName, day, request }) => ({
        event_name: eventName,
        day,
        request: String(request),
        ...state,
        generation: String(state.generation),
      })),
      clickhouse_settings: { async_insert: 0, wait_end_of_query: 1 },
      abort_signal: this.#signal,
    });
  }
}

export function dayOf(minute: number): number {
  return Math.floor(minute / MINUTES_OF_DAY);
}

function newRequest(): bigint {
  // Above the lasting one.
  return randomBytes(8).readBigUInt64LE() | 2n;
}
