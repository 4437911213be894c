import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { EXCEPTIONS_FRESH_MS } from '../metrics/exceptions.js';
import { tableName } from './client.js';

/**
 * Forgets users: their raw rows and numbers, and, through the roller, whatever of them is in the rollups.
 *
 * The order is what makes it exact and safe to die in:
 *   1. They are listed (`forgotten_users`): from now on no roller takes them in, and encoders begin to refuse them.
 *   2. The days on which they have rows are held: questions about these are answered from raw rows, nobody rebuilds them. Instances that
 *      answer from memory see it within EXCEPTIONS_FRESH_MS, which is waited for.
 *   3. The rows go, by a mutation that writes the parts anew: they are gone from the disk when ClickHouse removes the old parts. Steps 2
 *      and 3 are repeated until there is none: ClickHouse calls a mutation done that it left out of a part, where several of one
 *      table begin at once (measured on 26.7: one in twelve times with four; see decision 9).
 *   4. Their numbers go.
 *   5. In one INSERT, so at once: the held days are closed and asked for again, to be rebuilt from the rows that are left.
 * Whoever dies in between leaves days that are answered from raw rows, slowly and exactly; the next run for the same users, or
 * `deleteForgotten`, does the rest.
 *
 * Users are named by sipHash128 of their ids everywhere here: what is sent stands in ClickHouse's logs and in system.mutations.
 */

/** sipHash128 of a user's id, 32 hexadecimal digits. */
export type UserHash = string;

export interface Erased {
  /** Raw rows, repetitions included. */
  readonly rows: number;
  /** Days of event names that are to be rebuilt, under `rebuild`. */
  readonly days: number;
  readonly rebuild: bigint;
}

type ErasedTable = 'events' | 'rollup_users';

/** What is going on, in words. */
type OnProgress = (line: string) => void;

/** In one statement: each is 44 bytes of a query of 256 KiB at the most. */
const HASHES_PER_STATEMENT = 1_000;
const POLL_MS = 200;
/** Deletions after which it is no mutation that was left out: somebody still writes. */
const DELETIONS = 5;
/** A user who was listed less long ago is still in the hands of the command that did it. */
const COMMAND_MS = 3_600_000;
/** Rows may come in so long after their batch was announced. */
const BATCH_MS = 2 * 3_600_000;
const NOBODY = '0'.repeat(32);

/** Steps 1 to 5 for these users. */
export async function forgetUsers(
  client: ClickHouseClient,
  database: string,
  users: readonly { readonly hash: UserHash; readonly crc32: number }[],
  onProgress: OnProgress = () => undefined,
): Promise<Erased> {
  await refuseDistributed(client, database);
  const rebuild = randomRequest();
  let rows = 0;
  for (const some of chunks(users)) {
    const request = randomRequest();
    const eraser = new Eraser(client, database, hashesOf(some), onProgress);
    const values = some.map(({ hash, crc32 }) => `(unhex('${hash}'), ${crc32}, ${request})`).join(',');
    await eraser.command(
      `INSERT INTO ${tableName(database, 'forgotten_users')} (hash, crc32, request) VALUES ${values}`,
    );
    rows += await erase(eraser, request, rebuild);
  }
  return { rows, days: await daysOf(client, database, rebuild), rebuild };
}

/** Whether there are raw rows of these users. */
export async function hasRows(
  client: ClickHouseClient,
  database: string,
  users: readonly { readonly hash: UserHash }[],
): Promise<boolean> {
  for (const some of chunks(users)) {
    if ((await new Eraser(client, database, hashesOf(some), () => undefined).countRows()) > 0) return true;
  }
  return false;
}

/**
 * Steps 1 to 5 again for users of the list of whom something has come in by another way: through an instance that had not
 * heard of them, out of a log that was shipped late, from an operator's own INSERT; or whose command died. `since`: when this
 * was last done; only rows of batches that were announced after it are looked at, all rows where it is absent.
 */
export async function deleteForgotten(client: ClickHouseClient, database: string, since?: Date): Promise<Erased> {
  const name = (table: string): string => tableName(database, table);
  const rebuild = randomRequest();
  const [listed] = await rowsOf(client, `SELECT count() FROM ${name('forgotten_users')}`);
  if (Number(listed?.[0]) === 0) return { rows: 0, days: 0, rebuild };
  await refuseDistributed(client, database);
  const settled = `SELECT hash FROM ${name('forgotten_users')} GROUP BY hash
    HAVING max(at) < now64(6) - INTERVAL ${COMMAND_MS / 1000} SECOND`;
  const received = await receivedSince(client, database, since);
  const held = `SELECT request FROM ${name('rollup_exceptions')} GROUP BY event_name, day, request
    HAVING max(done) = 0 AND max(wanted) = 0`;
  const found = [
    `SELECT hash FROM ${name('forgotten_users')} WHERE hash IN (${settled}) AND request IN (${held})`,
    `SELECT hash FROM ${name('rollup_users')} WHERE hash IN (${settled})`,
    ...(received === undefined
      ? []
      : [`SELECT sipHash128(user_id) AS hash FROM ${name('events')} WHERE ${received} AND hash IN (${settled})`]),
  ].join(' UNION ALL ');
  const rows = await rowsOf(client, `SELECT DISTINCT hex(hash) FROM (${found})`);
  let deleted = 0;
  for (const hashes of chunks(rows.map(([hash]) => String(hash)))) {
    const request = randomRequest();
    const eraser = new Eraser(client, database, hashes, () => undefined);
    await eraser.command(
      `INSERT INTO ${name('forgotten_users')} (hash, crc32, request)
       SELECT hash, any(crc32), ${request} FROM ${name('forgotten_users')} WHERE hash IN (${eraser.list}) GROUP BY hash`,
    );
    deleted += await erase(eraser, request, rebuild);
  }
  return { rows: deleted, days: await daysOf(client, database, rebuild), rebuild };
}

async function refuseDistributed(client: ClickHouseClient, database: string): Promise<void> {
  const [row] = await rowsOf(
    client,
    `SELECT engine FROM system.tables WHERE database = {database:String} AND name = 'events'`,
    { database },
  );
  if (row?.[0] !== 'Distributed') return;
  throw new Error(
    'events is Distributed, which takes no deletions: delete WHERE sipHash128(user_id) = … from events_local ON CLUSTER',
  );
}

/** Which raw rows may be of batches that were announced since then, as a condition; undefined where there were none. */
async function receivedSince(
  client: ClickHouseClient,
  database: string,
  since: Date | undefined,
): Promise<string | undefined> {
  if (since === undefined) return 'true';
  const [row] = await rowsOf(
    client,
    `SELECT count(), countIf(toUnixTimestamp64Micro(received_to) = 0), toString(min(toUnixTimestamp64Micro(received_from))),
       toString(max(toUnixTimestamp64Micro(received_to)))
     FROM ${tableName(database, 'segments')}
     WHERE state != 'refused' AND at >= fromUnixTimestamp64Milli(${since.getTime() - BATCH_MS}, 'UTC')`,
  );
  const [batches = 0, unknown = 0, from = '', to = ''] = row ?? [];
  if (batches === 0) return undefined;
  const at = (us: string | number): string => `fromUnixTimestamp64Micro(${us}, 'UTC')`;
  return unknown === 0 ? `received_at >= ${at(from)} AND received_at <= ${at(to)}` : 'true';
}

/** Steps 2 to 5; returns the number of rows. */
async function erase(eraser: Eraser, request: bigint, rebuild: bigint): Promise<number> {
  const rows = await eraser.deleteRows(request);
  await eraser.deleteNumbers();
  await eraser.release(rebuild);
  return rows;
}

class Eraser {
  /** The hashes as a list for IN. */
  readonly list: string;
  readonly #client: ClickHouseClient;
  readonly #database: string;
  readonly #mark: UserHash;
  readonly #onProgress: OnProgress;

  constructor(client: ClickHouseClient, database: string, hashes: readonly UserHash[], onProgress: OnProgress) {
    this.#client = client;
    this.#database = database;
    this.#mark = hashes[0] ?? NOBODY;
    this.#onProgress = onProgress;
    this.list = hashes.map((hash) => `unhex('${hash}')`).join(',');
  }

  countRows(): Promise<number> {
    return this.#count('events', 'sipHash128(user_id)');
  }

  /** Steps 2 and 3; returns how many rows there were. */
  deleteRows(request: bigint): Promise<number> {
    return this.#deleteAll('events', 'sipHash128(user_id)', async () => {
      await this.#hold(request);
      await sleep(2 * EXCEPTIONS_FRESH_MS);
    });
  }

  /**
   * A number is never given twice, and the next one is the highest and one: so a number stays, as nobody's, before the row that
   * says whose it was goes. Safe beside a roller that gives numbers: none that it may read changes or vanishes.
   */
  async deleteNumbers(): Promise<void> {
    const users = this.#name('rollup_users');
    await this.#deleteAll('rollup_users', 'hash', () =>
      this.command(
        `INSERT INTO ${users} (hash, uid) SELECT unhex('${NOBODY}'), uid FROM ${users} WHERE hash IN (${this.list})`,
      ),
    );
  }

  /** All days of all event names, and of all events, on which these users have rows now. */
  async #hold(request: bigint): Promise<void> {
    this.#onProgress('looking for the days');
    await this.command(
      `INSERT INTO ${this.#name('rollup_exceptions')} (event_name, day, request, reason, wanted)
       SELECT DISTINCT arrayJoin([event_name, '']), toUInt32(intDiv(toUnixTimestamp64Milli(ts), 86400000)), ${request}, 'forget (held)', 0
       FROM ${this.#name('events')} WHERE sipHash128(user_id) IN (${this.list})`,
    );
  }

  /**
   * Deletes rows until there is none, preparing each time; returns how many there were, counted right before each deletion: those that one
   * left although it was done are counted again with the next. `hash`: the expression for the user's.
   */
  async #deleteAll(table: ErasedTable, hash: string, prepare: () => Promise<void>): Promise<number> {
    let found = 0;
    for (let deletions = 0; ; deletions += 1) {
      const left = await this.#count(table, hash);
      if (left === 0) return found;
      if (deletions === DELETIONS) {
        throw new Error(
          `rows of these users still come into ${table}, ${left} since the last of ${DELETIONS} deletions: ` +
            'stop who writes them, and run this again; until then their days are answered from raw rows',
        );
      }
      await prepare();
      found += await this.#count(table, hash);
      await this.#mutate(table, hash);
    }
  }

  async #count(table: ErasedTable, hash: string): Promise<number> {
    const [row] = await rowsOf(
      this.#client,
      `SELECT count() FROM ${this.#name(table)} WHERE ${hash} IN (${this.list})`,
    );
    return Number(row?.[0]);
  }

  /** Deletes rows, and waits until ClickHouse says that it is done. Never ends by a time limit: what takes long is a large table. */
  async #mutate(table: ErasedTable, hash: string): Promise<void> {
    await this.command(`ALTER TABLE ${this.#name(table)} DELETE WHERE ${hash} IN (${this.list})`);
    for (;;) {
      const [row] = await rowsOf(
        this.#client,
        `SELECT count(), sum(parts_to_do), max(latest_fail_reason) FROM system.mutations
         WHERE database = {database:String} AND table = {table:String} AND NOT is_done AND position(command, '${this.#mark}') > 0`,
        { database: this.#database, table },
      );
      const [running = 0, parts = 0, failure = ''] = row ?? [];
      if (running === 0) return;
      if (failure !== '') throw new Error(`ClickHouse fails to delete from ${table}, and goes on trying: ${failure}`);
      this.#onProgress(`deleting from ${table}: ${parts} parts to do`);
      await sleep(POLL_MS);
    }
  }

  /** Closes what these users hold, from earlier runs too, and asks for its rebuild: one block, one part, at once. */
  async release(rebuild: bigint): Promise<void> {
    const exceptions = this.#name('rollup_exceptions');
    await this.command(
      `INSERT INTO ${exceptions} (event_name, day, request, reason, wanted, done)
       SELECT event_name, day, row.1, row.2, 1, row.3
       FROM
       (
           SELECT event_name, day, request FROM ${exceptions}
           WHERE request IN (SELECT request FROM ${this.#name('forgotten_users')} WHERE hash IN (${this.list}))
           GROUP BY event_name, day, request HAVING max(done) = 0 AND max(wanted) = 0
       )
       ARRAY JOIN [(toUInt64(${rebuild}), 'forget', 0), (request, 'forget (held)', 1)] AS row`,
      // One block of any number of rows, made by one thread.
      { max_insert_threads: '1', min_insert_block_size_rows: '1000000000', max_threads: 1 },
    );
  }

  async command(query: string, settings: Readonly<Record<string, string | number>> = {}): Promise<void> {
    await this.#client.command({ query, clickhouse_settings: { ...LONG, async_insert: 0, ...settings } });
  }

  #name(table: string): string {
    return tableName(this.#database, table);
  }
}

async function daysOf(client: ClickHouseClient, database: string, rebuild: bigint): Promise<number> {
  const exceptions = tableName(database, 'rollup_exceptions');
  const [row] = await rowsOf(client, `SELECT uniqExact(event_name, day) FROM ${exceptions} WHERE request = ${rebuild}`);
  return Number(row?.[0]);
}

/** How many of the days that were asked for are not rebuilt yet. */
export async function daysToRebuild(client: ClickHouseClient, database: string, rebuild: bigint): Promise<number> {
  const [row] = await rowsOf(
    client,
    `SELECT count() FROM
     (
         SELECT 1 FROM ${tableName(database, 'rollup_exceptions')} WHERE request = ${rebuild}
         GROUP BY event_name, day HAVING max(done) = 0
     )`,
  );
  return Number(row?.[0]);
}

/** Headers that come as long as a statement runs keep the connection from being taken for dead. */
const LONG = {
  mutations_sync: '0',
  send_progress_in_http_headers: 1,
  http_headers_progress_interval_ms: '10000',
} as const;

async function rowsOf(
  client: ClickHouseClient,
  query: string,
  parameters: Readonly<Record<string, unknown>> = {},
): Promise<readonly (readonly (string | number)[])[]> {
  const result = await client.query({
    query,
    query_params: { ...parameters },
    format: 'JSONCompactEachRow',
    clickhouse_settings: { ...LONG, output_format_json_quote_64bit_integers: 0 },
  });
  return result.json<readonly (string | number)[]>();
}

function hashesOf(users: readonly { readonly hash: UserHash }[]): UserHash[] {
  return users.map(({ hash }) => hash);
}

function randomRequest(): bigint {
  return randomBytes(8).readBigUInt64LE();
}

function chunks<T>(all: readonly T[]): T[][] {
  const count = Math.ceil(all.length / HASHES_PER_STATEMENT);
  return Array.from({ length: count }, (_, i) => all.slice(i * HASHES_PER_STATEMENT, (i + 1) * HASHES_PER_STATEMENT));
}
