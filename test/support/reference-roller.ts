import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../src/shared/clickhouse/client.js';

/**
 * Fills the tables of the rollups from the raw rows in plain SQL: what the roller must arrive at, without anything of how it
 * does. Cells are left in several rows, as if the events had come in several commits.
 */
export class ReferenceRoller {
  readonly #client: ClickHouseClient;
  readonly #database: string;

  constructor(client: ClickHouseClient, database: string) {
    this.#client = client;
    this.#database = database;
  }

  /** Numbers the users of these events that have none; `where` is a condition over the columns of `events`. */
  async numberUsers(where = 'true'): Promise<void> {
    const users = this.#table('rollup_users');
    await this.#command(`
      INSERT INTO ${users}
      SELECT hash, (SELECT count() FROM ${users}) + rowNumberInAllBlocks()
      FROM (SELECT DISTINCT sipHash128(user_id) AS hash FROM ${this.#table('events')} FINAL WHERE ${where} ORDER BY hash)
      WHERE hash NOT IN (SELECT hash FROM ${users})`);
  }

  /** Adds the cells of these events, whose users have numbers, in rows of `commits` commits. */
  async addCells(where = 'true', { commits = 3, generation = 0 } = {}): Promise<void> {
    // (level, event_name, channel, bucket) of each cell that an event belongs to.
    const withAll = (level: number, ms: number): string =>
      `arrayMap(x -> (${level}, if(x % 2 = 0, event_name, ''), if(x < 2, channel, ''), intDiv(ms, ${ms})), range(4))`;
    await this.#command(`
      INSERT INTO ${this.#table('rollup')}
      SELECT cell.1, cell.2, cell.3, toUInt32(cell.4), if(cell.1 = 4, 0, ${generation}), sum(events), 0,
        groupBitmapState(uid),
        if(cell.1 = 1, groupArrayArray(arrayMap(second -> bitOr(bitShiftLeft(toUInt64(second), 32), toUInt64(uid)), seconds)), [])
      FROM (
        SELECT cell, commit, uid, count() AS events, groupArray(intDiv(ms % 60000, 1000)) AS seconds
        FROM (
          SELECT arrayJoin(arrayConcat([(1, event_name, channel, intDiv(ms, 60000))],
              ${withAll(2, 3_600_000)}, ${withAll(3, 86_400_000)}, ${withAll(4, 5 * 86_400_000)})) AS cell, commit, uid, ms
          FROM (
            SELECT event_name, toString(channel) AS channel, toUnixTimestamp64Milli(ts) AS ms,
              cityHash64(event_id, ts) % ${commits} AS commit, sipHash128(user_id) AS hash
            FROM ${this.#table('events')} FINAL WHERE ${where}
          ) AS rolled
          INNER JOIN ${this.#table('rollup_users')} AS numbers USING (hash)
        )
        GROUP BY cell, commit, uid
      )
      GROUP BY cell, commit`);
  }

  /** One row of `rollup_exceptions`. */
  async except(row: {
    readonly event_name: string;
    readonly day: number;
    readonly request: number;
    readonly reason?: string;
    readonly done?: boolean;
    readonly generation?: number;
  }): Promise<void> {
    const { event_name, day, request, reason = 'changed', done = false, generation = 0 } = row;
    await this.#client.insert({
      table: this.#table('rollup_exceptions'),
      values: [{ event_name, day, request, reason, done: done ? 1 : 0, generation }],
      format: 'JSONEachRow',
      clickhouse_settings: { async_insert: 0 },
    });
  }

  #table(name: string): string {
    return tableName(this.#database, name);
  }

  async #command(query: string): Promise<void> {
    // Rows of one key stay several rows, as they do between two merges.
    await this.#client.command({ query, clickhouse_settings: { optimize_on_insert: 0, async_insert: 0 } });
  }
}
