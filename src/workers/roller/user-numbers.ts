import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import type { Fence } from './fence.js';
import { Generations, HashTable } from './hash-table.js';
import { BinaryReader, hexOf, readBinary, READ_SETTINGS, type RowGroup } from './rows.js';

/**
 * Users' numbers: dense, in order of appearance, each given once. What is not in memory is asked for; who has none gets the
 * next one by an INSERT whose token is the first number it gives, so that of two rollers only one gives it.
 */
export interface UserNumbersOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly signal: AbortSignal;
  readonly fence: Fence;
  /** Users remembered, twice this at most. */
  readonly memoryMax: number;
  /** No higher number is given. */
  readonly usersMax: number;
}

/** Not a number: there are more users than get one. */
export const NO_NUMBER = 0xffffffff;
const WORDS = 4;

export class UserNumbers {
  readonly #options: UserNumbersOptions;
  #known: Generations;
  #next = 0;

  constructor(options: UserNumbersOptions) {
    this.#options = options;
    this.#known = new Generations(options.memoryMax);
  }

  get bytes(): number {
    return this.#known.bytes;
  }

  /** Users that have a number. */
  get count(): number {
    return this.#next;
  }

  /** Forgets everything and asks for the next number. */
  async reset(): Promise<void> {
    const { client, database, signal, memoryMax } = this.#options;
    this.#known = new Generations(memoryMax);
    const query = `SELECT toUInt32(if(count() = 0, 0, max(uid) + 1)) FROM ${tableName(database, 'rollup_users')} FORMAT RowBinary`;
    this.#next = new BinaryReader(await readBinary(client, query, signal)).uint32();
  }

  /** The numbers of the users of `groups`, row by row. Throws FenceBroken where another roller gives numbers. */
  async of(groups: readonly RowGroup[]): Promise<Uint32Array[]> {
    this.#known.age();
    const missing = new HashTable();
    const missingHashes: number[] = [];
    const numbers = groups.map(({ count, users }) => {
      const column = new Uint32Array(count);
      for (let i = 0; i < count; i += 1) {
        const at = i * WORDS;
        const [k0, k1, k2, k3] = [users[at] ?? 0, users[at + 1] ?? 0, users[at + 2] ?? 0, users[at + 3] ?? 0];
        if (this.#known.find(k0, k1, k2, k3)) {
          column[i] = this.#known.value;
        } else {
          column[i] = NO_NUMBER;
          if (missing.find(k0, k1, k2, k3) < 0) {
            missing.add(k0, k1, k2, k3, 0, 0);
            missingHashes.push(k0, k1, k2, k3);
          }
        }
      }
      return column;
    });
    if (missingHashes.length === 0) return numbers;
    const found = await this.#number(new Uint32Array(missingHashes));
    for (const [index, { count, users }] of groups.entries()) {
      const column = numbers[index] ?? new Uint32Array();
      for (let i = 0; i < count; i += 1) {
        if (column[i] !== NO_NUMBER) continue;
        const at = i * WORDS;
        const slot = found.find(users[at] ?? 0, users[at + 1] ?? 0, users[at + 2] ?? 0, users[at + 3] ?? 0);
        if (slot >= 0) column[i] = found.valueAt(slot);
      }
    }
    return numbers;
  }

  /** Numbers of users that are not in memory; who is not in the result is beyond the bound. */
  async #number(hashes: Uint32Array): Promise<HashTable> {
    const found = await this.#ask(hashes);
    const fresh: number[] = [];
    const first = this.#next;
    let next = first;
    for (let at = 0; at < hashes.length && next < this.#options.usersMax; at += WORDS) {
      const [k0, k1, k2, k3] = [hashes[at] ?? 0, hashes[at + 1] ?? 0, hashes[at + 2] ?? 0, hashes[at + 3] ?? 0];
      if (found.find(k0, k1, k2, k3) >= 0) continue;
      found.add(k0, k1, k2, k3, next, 0);
      fresh.push(k0, k1, k2, k3);
      next += 1;
    }
    if (fresh.length > 0) {
      await this.#give(new Uint32Array(fresh), first);
      this.#next = next;
    }
    for (let at = 0; at < hashes.length; at += WORDS) {
      const [k0, k1, k2, k3] = [hashes[at] ?? 0, hashes[at + 1] ?? 0, hashes[at + 2] ?? 0, hashes[at + 3] ?? 0];
      const slot = found.find(k0, k1, k2, k3);
      if (slot >= 0) this.#known.add(k0, k1, k2, k3, found.valueAt(slot), 0);
    }
    return found;
  }

  async #ask(hashes: Uint32Array): Promise<HashTable> {
    const { client, database, signal } = this.#options;
    const query = `SELECT hash, uid FROM ${tableName(database, 'rollup_users')} WHERE hash IN (${fixedStrings(hashes)}) FORMAT RowBinary`;
    const reader = new BinaryReader(await readBinary(client, query, signal));
    const found = new HashTable();
    while (!reader.done) {
      const [k0 = 0, k1 = 0, k2 = 0, k3 = 0] = reader.words(WORDS);
      found.add(k0, k1, k2, k3, reader.uint32(), 0);
    }
    return found;
  }

  async #give(hashes: Uint32Array, first: number): Promise<void> {
    const { client, database, signal, fence } = this.#options;
    const table = tableName(database, 'rollup_users');
    const count = hashes.length / WORDS;
    await client.command({
      query: `INSERT INTO ${table} (hash, uid)
        SELECT toFixedString(substring(${hexOf(hashes)}, number * 16 + 1, 16), 16), toUInt32(${first} + number)
        FROM numbers(${count}) WHERE ${fence.condition()}`,
      abort_signal: signal,
      clickhouse_settings: { ...READ_SETTINGS, ...oneBlock(count), insert_deduplication_token: `users-from-${first}` },
    });
    // Its token is that of any INSERT which begins with this number. A roller that was quicker gave them to its own users: they may
    // begin as ours do and go on otherwise.
    const given = await this.#ask(hashes);
    for (let i = 0; i < count; i += 1) {
      const at = i * WORDS;
      const slot = given.find(hashes[at] ?? 0, hashes[at + 1] ?? 0, hashes[at + 2] ?? 0, hashes[at + 3] ?? 0);
      if (slot < 0 || given.valueAt(slot) !== first + i) fence.broken();
    }
  }
}

/** Hashes as the right side of an IN. */
function fixedStrings(hashes: Uint32Array): string {
  return `SELECT toFixedString(substring(${hexOf(hashes)}, number * 16 + 1, 16), 16) FROM numbers(${hashes.length / WORDS})`;
}

/** An INSERT … SELECT of so many rows is one part. */
export function oneBlock(rows: number): Record<string, string | number> {
  const size = String(rows + 1_048_576);
  return {
    max_block_size: size,
    max_insert_block_size: size,
    min_insert_block_size_rows: size,
    min_insert_block_size_bytes: '0',
    max_insert_threads: '1',
    insert_deduplicate: 1,
    async_insert: 0,
  };
}
