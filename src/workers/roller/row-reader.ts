import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import { READ_SETTINGS } from '../../shared/clickhouse/binary.js';
import type { RowGroup } from './rows.js';

/**
 * Rows of `events` as ClickHouse has them in memory, in its format Native, sorted out by (event name, channel) here: grouped there, and
 * written as one value a group, the same rows cost it three times as much.
 *
 * Everything lies in memory that is kept from one statement to the next: a page that is touched for the first time is as dear as a dozen
 * rows.
 *
 * A block, until the end of the result (clickhouse.com/docs/interfaces/formats/Native):
 *
 *     varint columns | varint rows | per column: string name, string type, values
 *
 * with all values of a column one behind the other, and those of LowCardinality(String) as numbers of the block's own list:
 *
 *     u64 version (1) | u64 bits 0-7: log2 of the bytes of a number, 0x200: a list follows | u64 n | n strings | u64 rows | numbers
 */

/** The columns that a RowReader reads, out of `events`. */
export const ROW_COLUMNS = `toLowCardinality(event_name), toLowCardinality(channel), toUnixTimestamp64Milli(ts), event_id, sipHash128(user_id)`;
const TYPES = ['LowCardinality(String)', 'LowCardinality(String)', 'Int64', 'UUID', 'FixedString(16)'];

const VERSION = 1;
const HAS_LIST = 0x200;
/** Of an id, or a hash. */
const WORDS = 4;
const BYTES = 16;
const ROOM_MIN = 4_096;
/** Memory for more than a large step is not kept: it was for a second that had to be loaded, or a backlog of several instances. */
const KEPT_ROWS_MAX = 600_000;
const KEPT_BYTES_MAX = 32 * 1024 * 1024;

interface Found {
  readonly eventName: string;
  readonly channel: string;
  count: number;
  /** Where its next row goes. */
  at: number;
}

/** Where a block's columns are, from `timestamps` on in bytes. */
interface Block {
  readonly rows: number;
  readonly timestamps: number;
  readonly eventIds: number;
  readonly users: number;
}

/** Where the rows of one statement are: they are valid until the next is read into it. */
export class RowMemory {
  timestamps = new Float64Array();
  eventIds = new Uint32Array();
  users = new Uint32Array();

  reserve(rows: number): void {
    if (this.timestamps.length < rows) this.#setRoom(Math.max(ROOM_MIN, Math.ceil(rows * 1.25)));
  }

  /** When the rows are not needed any more: gives back what is more than a large step takes. */
  trim(): void {
    if (this.timestamps.length > KEPT_ROWS_MAX) this.#setRoom(0);
  }

  #setRoom(rows: number): void {
    this.timestamps = new Float64Array(rows);
    this.eventIds = new Uint32Array(rows * WORDS);
    this.users = new Uint32Array(rows * WORDS);
  }
}

export class RowReader {
  #bytes = Buffer.alloc(0);
  #at = 0;
  #end = 0;
  /** Of each row, in the order of the result. */
  #groupOf = new Uint32Array();
  /** A column of a block, where its words are aligned. */
  #column = new Uint32Array();

  /** The rows of a SELECT of ROW_COLUMNS. */
  async read(
    client: ClickHouseClient,
    query: string,
    into: RowMemory,
    signal: AbortSignal,
    settings: ClickHouseSettings = READ_SETTINGS,
  ): Promise<RowGroup[]> {
    const { stream } = await client.exec({
      query: `${query} FORMAT Native`,
      clickhouse_settings: settings,
      abort_signal: signal,
    });
    this.#end = 0;
    for await (const chunk of stream) this.#append(chunk as Buffer);
    const groups = this.#decode(into);
    if (this.#bytes.length > KEPT_BYTES_MAX) this.#bytes = Buffer.alloc(0);
    return groups;
  }

  #append(chunk: Buffer): void {
    const end = this.#end + chunk.length;
    if (end > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(end, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#end);
      this.#bytes = larger;
    }
    chunk.copy(this.#bytes, this.#end);
    this.#end = end;
  }

  #decode(into: RowMemory): RowGroup[] {
    const found: Found[] = [];
    const known = new Map<string, number>();
    const blocks: Block[] = [];
    let rows = 0;
    for (this.#at = 0; this.#at < this.#end;) {
      const block = this.#readBlock(found, known, rows);
      rows += block.rows;
      blocks.push(block);
    }
    into.reserve(rows);
    let from = 0;
    for (const group of found) {
      group.at = from;
      from += group.count;
    }
    let done = 0;
    for (const block of blocks) {
      this.#sortOut(block, found, this.#groupOf.subarray(done, done + block.rows), into);
      done += block.rows;
    }
    return found.map(({ eventName, channel, count, at }) => ({
      eventName,
      channel,
      count,
      timestamps: into.timestamps.subarray(at - count, at),
      eventIds: into.eventIds.subarray((at - count) * WORDS, at * WORDS),
      users: into.users.subarray((at - count) * WORDS, at * WORDS),
    }));
  }

  /** The head of a block, and the groups of its rows. */
  #readBlock(found: Found[], known: Map<string, number>, rowsBefore: number): Block {
    const columns = this.#varint();
    const rows = this.#varint();
    if (columns !== TYPES.length)
      throw new Error(`a block of ${columns} columns where there should be ${TYPES.length}`);
    const places: number[] = [];
    const lists: (Numbered | undefined)[] = [];
    for (const type of TYPES) {
      this.#text();
      const actual = this.#text();
      if (actual !== type) throw new Error(`a column of type ${actual} where ${type} should be`);
      if (type.startsWith('Low')) {
        lists.push(rows === 0 ? undefined : this.#numbered(rows));
      } else {
        places.push(this.#at);
        this.#skip(rows * (type === 'Int64' ? 8 : BYTES));
      }
    }
    const [names, channels] = lists;
    if (names !== undefined && channels !== undefined) this.#group(found, known, rowsBefore, rows, names, channels);
    const [timestamps = 0, eventIds = 0, users = 0] = places;
    return { rows, timestamps, eventIds, users };
  }

  #group(
    found: Found[],
    known: Map<string, number>,
    rowsBefore: number,
    rows: number,
    names: Numbered,
    channels: Numbered,
  ): void {
    if (this.#groupOf.length < rowsBefore + rows) {
      const larger = new Uint32Array(Math.max(ROOM_MIN, (rowsBefore + rows) * 2));
      larger.set(this.#groupOf.subarray(0, rowsBefore));
      this.#groupOf = larger;
    }
    const groupOf = this.#groupOf;
    const width = channels.list.length;
    /** Of a name and a channel of this block, the group's number plus one. */
    const pairs = new Uint32Array(names.list.length * width);
    for (let i = 0; i < rows; i += 1) {
      const pair = (names.numbers[i] ?? 0) * width + (channels.numbers[i] ?? 0);
      let group = (pairs[pair] ?? 0) - 1;
      if (group < 0) {
        group = groupNumber(
          found,
          known,
          names.list[Math.floor(pair / width)] ?? '',
          channels.list[pair % width] ?? '',
        );
        pairs[pair] = group + 1;
      }
      groupOf[rowsBefore + i] = group;
    }
    const counts = new Uint32Array(found.length);
    for (let i = rowsBefore; i < rowsBefore + rows; i += 1) {
      const group = groupOf[i] ?? 0;
      counts[group] = (counts[group] ?? 0) + 1;
    }
    for (const [number, group] of found.entries()) group.count += counts[number] ?? 0;
  }

  /** The rows of a block to where those of their groups are. */
  #sortOut(
    { rows, timestamps, eventIds, users }: Block,
    found: readonly Found[],
    groupOf: Uint32Array,
    into: RowMemory,
  ): void {
    const next = Uint32Array.from(found, ({ at }) => at);
    const places = new Uint32Array(rows);
    for (let i = 0; i < rows; i += 1) {
      const group = groupOf[i] ?? 0;
      const place = next[group] ?? 0;
      places[i] = place;
      next[group] = place + 1;
    }
    for (const [number, group] of found.entries()) group.at = next[number] ?? 0;
    const halves = this.#words(timestamps, rows * 2);
    const times = into.timestamps;
    // Times are after 1970, so the upper half is small and not negative.
    for (let i = 0; i < rows; i += 1) times[places[i] ?? 0] = (halves[2 * i + 1] ?? 0) * 2 ** 32 + (halves[2 * i] ?? 0);
    spread(this.#words(eventIds, rows * WORDS), places, into.eventIds);
    spread(this.#words(users, rows * WORDS), places, into.users);
  }

  /** Words of the result; valid until the next call. */
  #words(at: number, count: number): Uint32Array {
    if (this.#column.length < count) this.#column = new Uint32Array(count);
    new Uint8Array(this.#column.buffer).set(this.#bytes.subarray(at, at + count * 4));
    return this.#column;
  }

  #numbered(rows: number): Numbered {
    const version = this.#uint64();
    const kind = this.#uint64();
    const width = 2 ** (kind & 0xff);
    if (version !== VERSION || width > 4 || (kind & HAS_LIST) === 0)
      throw new Error(`numbered values of an unknown kind: version ${version}, kind ${kind}`);
    const list: string[] = [];
    for (let left = this.#uint64(); left > 0; left -= 1) list.push(this.#text());
    if (this.#uint64() !== rows) throw new Error('a column of another length than its block');
    const at = this.#skip(rows * width);
    const numbers = new Uint8Array(this.#bytes.subarray(at, at + rows * width)).buffer;
    if (width === 1) return { list, numbers: new Uint8Array(numbers) };
    return { list, numbers: width === 2 ? new Uint16Array(numbers) : new Uint32Array(numbers) };
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.#skip(1)] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  #text(): string {
    const length = this.#varint();
    const at = this.#skip(length);
    return this.#bytes.toString('utf8', at, at + length);
  }

  #uint64(): number {
    const at = this.#skip(8);
    return this.#bytes.readUInt32LE(at + 4) * 2 ** 32 + this.#bytes.readUInt32LE(at);
  }

  /** Where the next bytes are. */
  #skip(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    // Whatever cuts an answer short must not look like fewer rows.
    if (this.#at > this.#end) throw new Error("ClickHouse's answer ends within a block");
    return at;
  }
}

/** Values of a column as numbers into a list. */
interface Numbered {
  readonly list: readonly string[];
  readonly numbers: Uint8Array | Uint16Array | Uint32Array;
}

function groupNumber(found: Found[], known: Map<string, number>, eventName: string, channel: string): number {
  const key = `${eventName}\0${channel}`;
  let number = known.get(key);
  if (number === undefined) {
    number = found.length;
    known.set(key, number);
    found.push({ eventName, channel, count: 0, at: 0 });
  }
  return number;
}

/** Four words a row, to their places. */
function spread(words: Uint32Array, places: Uint32Array, into: Uint32Array): void {
  for (let i = 0; i < places.length; i += 1) {
    const from = i * WORDS;
    const to = (places[i] ?? 0) * WORDS;
    into[to] = words[from] ?? 0;
    into[to + 1] = words[from + 1] ?? 0;
    into[to + 2] = words[from + 2] ?? 0;
    into[to + 3] = words[from + 3] ?? 0;
  }
}
