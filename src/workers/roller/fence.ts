import { randomBytes } from 'node:crypto';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { BinaryReader, quoteText, readBinary } from '../../shared/clickhouse/binary.js';

/** Whose commit it is, and which. */
export interface CommitMark {
  readonly roller: string;
  readonly number: number;
}

/**
 * The count of commits in `rollup` (level 0), which tells a roller whether what it remembers is still so: whoever commits
 * adds one, and every INSERT that relies on the past takes effect only while the count is the one its roller knows.
 */
export class Fence {
  readonly #client: ClickHouseClient;
  readonly #table: string;
  readonly #signal: AbortSignal;
  /** Names this roller in its commits. */
  roller = newName();
  /** Commits that this roller knows of. */
  commits = 0;

  constructor(client: ClickHouseClient, database: string, signal: AbortSignal) {
    this.#client = client;
    this.#table = tableName(database, 'rollup');
    this.#signal = signal;
  }

  /**
   * Begins again from the commits that have taken place, under a new name: a commit of before whose fate is not known may yet
   * take place, and must not be taken for one of ours from now on.
   */
  async reset(): Promise<void> {
    this.roller = newName();
    this.commits = (await this.read()).commits;
  }

  /** SQL that is true while nobody has committed since. */
  condition(): string {
    return `(SELECT max(commits) FROM ${this.#table} WHERE level = 0) = ${this.commits}`;
  }

  /** Commits that have taken place, by all and by this roller last. */
  async read(): Promise<{ readonly commits: number; readonly mine: number }> {
    const query = `SELECT toInt64(max(commits)), toInt64(maxIf(commits, event_name = ${quoteText(this.roller)}))
      FROM ${this.#table} WHERE level = 0 FORMAT RowBinary`;
    const reader = new BinaryReader(await readBinary(this.#client, query, this.#signal));
    return { commits: reader.int64(), mine: reader.int64() };
  }

  /** Throws FenceBroken where another roller has committed. */
  async verify(): Promise<void> {
    if ((await this.read()).commits !== this.commits) this.broken();
  }

  broken(): never {
    throw new FenceBroken('another roller has committed');
  }
}

function newName(): string {
  return randomBytes(8).toString('hex');
}

/** What this roller remembers may be old: nothing was counted, and it begins again. */
export class FenceBroken extends Error {
  override readonly name = 'FenceBroken';
}
