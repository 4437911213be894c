import { randomBytes } from 'node:crypto';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import type { Fence } from './fence.js';
import { HashFilter } from './hash-filter.js';
import { HashTable } from './hash-table.js';
import { BinaryReader, quoteBytes, readBinary, READ_SETTINGS } from '../../shared/clickhouse/binary.js';
import type { RowGroup } from './rows.js';
import { UserCache } from './user-cache.js';

/**
 * Users' numbers: dense, in order of appearance, each given once. Who is not in memory is asked for; who has none gets the
 * next one by an INSERT whose token is the first number it gives, so that of two rollers only one gives it.
 *
 * Of most users who are new a filter of all hashes says so without asking. It has every hash that there was when it was read; one that another roller
 * added behind it took the number that is next here, so that nobody gets a second one. What is read for the filter fills the memory too, as
 * far as it goes, so that a roller that has just begun asks no more than one that has run for long.
 */
export interface UserNumbersOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly signal: AbortSignal;
  readonly fence: Fence;
  /** Users remembered, at most. */
  readonly memoryMax: number;
  /** No higher number is given. */
  readonly usersMax: number;
  /** While there are no more users than these, a filter tells of those who are new. */
  readonly filterMax: number;
}

/** Not a number: there are more users than get one. */
export const NO_NUMBER = 0xffffffff;
const WORDS = 4;
/** Of a user as the table has it: hash and number. */
const USER_WORDS = WORDS + 1;
/** Hashes that a filter has room for at least. */
const FILTER_ROOM_MIN = 100_000;

export class UserNumbers {
  readonly #options: UserNumbersOptions;
  #known: UserCache;
  /** Of all hashes that have a number; none: everything is asked for. */
  #filter: HashFilter | undefined;
  #next = 0;

  constructor(options: UserNumbersOptions) {
    this.#options = options;
    this.#known = new UserCache(options.memoryMax);
  }

  get bytes(): number {
    return this.#known.bytes + (this.#filter?.bytes ?? 0);
  }

  /** Numbers that were given: nearly all of them to users. */
  get count(): number {
    return this.#next;
  }

  /** Forgets everything and asks for the next number. */
  async reset(): Promise<void> {
    const { client, database, signal, memoryMax } = this.#options;
    this.#known = new UserCache(memoryMax);
    this.#filter = undefined;
    const query = `SELECT toUInt32(if(count() = 0, 0, max(uid) + 1)) FROM ${tableName(database, 'rollup_users')} FORMAT RowBinary`;
    this.#next = new BinaryReader(await readBinary(client, query, signal)).uint32();
  }

  /** The numbers of the users of `groups`, row by row. Throws FenceBroken where another roller gives numbers. */
  async of(groups: readonly RowGroup[]): Promise<Uint32Array[]> {
    await this.#readAll();
    const missing = new Missing();
    const all = new Uint32Array(groups.reduce((sum, { count }) => sum + count, 0));
    let from = 0;
    const numbers = groups.map((group) => {
      this.#recall(group, all, from, missing);
      from += group.count;
      return all.subarray(from - group.count, from);
    });
    if (missing.count === 0) return numbers;
    const given = await this.#number(missing.hashes);
    for (const [i, row] of missing.rows.entries()) all[row] = given[missing.users[i] ?? 0] ?? NO_NUMBER;
    return numbers;
  }

  /** The numbers that are in memory, of a group whose rows begin at `from`. */
  #recall({ count, users }: RowGroup, numbers: Uint32Array, from: number, missing: Missing): void {
    const known = this.#known;
    for (let i = 0; i < count; i += 1) {
      const at = i * WORDS;
      const k0 = users[at] ?? 0;
      const k1 = users[at + 1] ?? 0;
      const k2 = users[at + 2] ?? 0;
      const k3 = users[at + 3] ?? 0;
      if (known.find(k0, k1, k2, k3)) numbers[from + i] = known.value;
      else missing.add(from + i, k0, k1, k2, k3);
    }
  }

  /** Numbers of users that are not in memory; who is beyond the bound has NO_NUMBER. */
  async #number(hashes: Uint32Array): Promise<Uint32Array> {
    const filter = this.#filter;
    const found = await this.#ask(filter === undefined ? hashes : thoseIn(filter, hashes));
    const numbers = new Uint32Array(hashes.length / WORDS);
    const fresh = new Uint32Array(hashes.length);
    const first = this.#next;
    let next = first;
    for (let user = 0; user < numbers.length; user += 1) {
      const at = user * WORDS;
      const slot = slotOf(found, hashes, at);
      if (slot >= 0) {
        numbers[user] = found.valueAt(slot);
      } else if (next < this.#options.usersMax) {
        fresh.set(hashes.subarray(at, at + WORDS), (next - first) * WORDS);
        numbers[user] = next;
        next += 1;
      } else {
        numbers[user] = NO_NUMBER;
      }
    }
    if (next > first) {
      const given = fresh.subarray(0, (next - first) * WORDS);
      this.#next = await this.#give(given, first);
      if (filter !== undefined) addAll(filter, given);
    }
    for (let user = 0; user < numbers.length; user += 1) {
      const number = numbers[user] ?? NO_NUMBER;
      const at = user * WORDS;
      if (number !== NO_NUMBER)
        this.#known.add(hashes[at] ?? 0, hashes[at + 1] ?? 0, hashes[at + 2] ?? 0, hashes[at + 3] ?? 0, number);
    }
    return numbers;
  }

  /** Reads all users into the filter, and into memory while that has room, where the filter is missing or full; too many have none. */
  async #readAll(): Promise<void> {
    const { client, database, signal, filterMax } = this.#options;
    if (this.#next > filterMax) this.#filter = undefined;
    else if (this.#filter === undefined || this.#filter.size > this.#filter.capacity) {
      const filter = new HashFilter(Math.min(Math.max(2 * this.#next, FILTER_ROOM_MIN), filterMax));
      const query = `SELECT hash, uid FROM ${tableName(database, 'rollup_users')} FORMAT RowBinary`;
      await eachUser(client, query, signal, (k0, k1, k2, k3, number) => {
        filter.add(k0, k1, k2, k3);
        this.#known.offer(k0, k1, k2, k3, number);
      });
      this.#filter = filter;
    }
  }

  async #ask(hashes: Uint32Array): Promise<HashTable> {
    const { client, database, signal } = this.#options;
    if (hashes.length === 0) return new HashTable();
    const query = `SELECT hash, uid FROM ${tableName(database, 'rollup_users')} WHERE hash IN (${fixedStrings(hashes)}) FORMAT RowBinary`;
    const reader = new BinaryReader(await readBinary(client, query, signal));
    const found = HashTable.for(hashes.length / WORDS);
    while (!reader.done) {
      found.add(reader.uint32(), reader.uint32(), reader.uint32(), reader.uint32(), reader.uint32());
    }
    return found;
  }

  /**
   * Gives these users the numbers from `first` on, and the one behind them to nobody: a mark, drawn at random, that tells whether this
   * INSERT took place. Its token is that of any INSERT that begins with the same number; a roller that was quicker gave them
   * to its own users. A block is there as a whole or not at all, so that one row says it for all. Returns the next number.
   */
  async #give(hashes: Uint32Array, first: number): Promise<number> {
    const { client, database, signal, fence } = this.#options;
    const table = tableName(database, 'rollup_users');
    const count = hashes.length / WORDS + 1;
    const mark = randomBytes(4 * WORDS);
    const rows = Buffer.concat([Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength), mark]);
    await client.command({
      query: `INSERT INTO ${table} (hash, uid)
        SELECT toFixedString(substring(${quoteBytes(rows)}, number * 16 + 1, 16), 16), toUInt32(${first} + number)
        FROM numbers(${count}) WHERE ${fence.condition()}`,
      abort_signal: signal,
      clickhouse_settings: { ...READ_SETTINGS, ...oneBlock(count), insert_deduplication_token: `users-from-${first}` },
    });
    const query = `SELECT count() = 1 FROM ${table} WHERE hash = unhex('${mark.toString('hex')}') FORMAT RowBinary`;
    if (new BinaryReader(await readBinary(client, query, signal)).uint8() !== 1) fence.broken();
    return first + count;
  }
}

/** Users that are not in memory, and the rows that wait for their numbers. */
class Missing {
  readonly #table = new HashTable();
  #hashes = new Uint32Array(WORDS * 1_024);
  count = 0;
  readonly rows: number[] = [];
  /** Of each row, which of the users. */
  readonly users: number[] = [];

  /** Of each of them, once. */
  get hashes(): Uint32Array {
    return this.#hashes.subarray(0, this.count * WORDS);
  }

  add(row: number, k0: number, k1: number, k2: number, k3: number): void {
    this.rows.push(row);
    const slot = this.#table.find(k0, k1, k2, k3);
    if (slot >= 0) {
      this.users.push(this.#table.valueAt(slot));
      return;
    }
    const at = this.count * WORDS;
    if (at === this.#hashes.length) {
      const larger = new Uint32Array(at * 2);
      larger.set(this.#hashes);
      this.#hashes = larger;
    }
    this.#hashes[at] = k0;
    this.#hashes[at + 1] = k1;
    this.#hashes[at + 2] = k2;
    this.#hashes[at + 3] = k3;
    this.#table.add(k0, k1, k2, k3, this.count);
    this.users.push(this.count);
    this.count += 1;
  }
}

function addAll(filter: HashFilter, hashes: Uint32Array): void {
  for (let at = 0; at < hashes.length; at += WORDS) {
    filter.add(hashes[at] ?? 0, hashes[at + 1] ?? 0, hashes[at + 2] ?? 0, hashes[at + 3] ?? 0);
  }
}

/** Those that may be in the filter. */
function thoseIn(filter: HashFilter, hashes: Uint32Array): Uint32Array {
  const some = new Uint32Array(hashes.length);
  let words = 0;
  for (let at = 0; at < hashes.length; at += WORDS) {
    if (!filter.mayHave(hashes[at] ?? 0, hashes[at + 1] ?? 0, hashes[at + 2] ?? 0, hashes[at + 3] ?? 0)) continue;
    some.set(hashes.subarray(at, at + WORDS), words);
    words += WORDS;
  }
  return some.subarray(0, words);
}

/** The users that a query answers with. */
async function eachUser(
  client: ClickHouseClient,
  query: string,
  signal: AbortSignal,
  onUser: (k0: number, k1: number, k2: number, k3: number, number: number) => void,
): Promise<void> {
  const { stream } = await client.exec({ query, clickhouse_settings: READ_SETTINGS, abort_signal: signal });
  let rest = Buffer.alloc(0);
  for await (const chunk of stream) {
    const bytes = Buffer.concat([rest, chunk as Buffer]);
    const whole = bytes.length - (bytes.length % (USER_WORDS * 4));
    // A view of words must begin where a word does.
    const words = new Uint32Array(new Uint8Array(bytes.subarray(0, whole)).buffer);
    for (let at = 0; at < words.length; at += USER_WORDS) {
      onUser(words[at] ?? 0, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0, words[at + 4] ?? 0);
    }
    rest = bytes.subarray(whole);
  }
}

function slotOf(table: HashTable, hashes: Uint32Array, at: number): number {
  return table.find(hashes[at] ?? 0, hashes[at + 1] ?? 0, hashes[at + 2] ?? 0, hashes[at + 3] ?? 0);
}

/** Hashes as the right side of an IN. */
function fixedStrings(hashes: Uint32Array): string {
  return `SELECT toFixedString(substring(${quoteBytes(hashes)}, number * 16 + 1, 16), 16) FROM numbers(${hashes.length / WORDS})`;
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
