import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { BUCKET_MS } from '../../shared/metrics/plan.js';
import { BinaryReader, quoteText, readBinary } from '../../shared/clickhouse/binary.js';
import { type SeriesKey, Unit } from './cell.js';
import type { Bounds, Loaded } from './mirror.js';
import type { UserSet } from './user-set.js';

/**
 * Reads cells of `rollup` as they were after one commit: whatever a statement here reads, it reads in one scan of one table, together
 * with the rows that count the commits. ClickHouse gives a scan one snapshot, in which a commit is there as a whole or not at all.
 */

/** Units of a series that are to be read. */
export interface Wanted {
  readonly key: SeriesKey;
  readonly buckets: readonly number[];
}

export interface LoadLimits {
  readonly bytesMax: number;
  readonly timeoutMs: number;
}

/** The state of a groupBitmap: few users as a list, more as a roaring bitmap in its portable form. */
const STATE = { list: 0, bitmap: 1 } as const;

function settingsOf({ bytesMax, timeoutMs }: LoadLimits): ClickHouseSettings {
  return {
    readonly: '2',
    max_threads: 2,
    max_execution_time: timeoutMs / 1000,
    max_result_bytes: String(bytesMax),
    max_query_size: String(16 * 1024 * 1024),
    wait_end_of_query: 1,
    cancel_http_readonly_queries_on_client_close: 1,
    use_query_cache: 0,
    use_query_condition_cache: 0,
    timeout_overflow_mode: 'throw',
    read_overflow_mode: 'throw',
    result_overflow_mode: 'throw',
  };
}

/** Cells with their users, or minutes with their `entries`: all that is wanted is of one kind. */
export async function loadCells(
  client: ClickHouseClient,
  database: string,
  wanted: readonly Wanted[],
  column: 'users' | 'entries',
  limits: LoadLimits,
  signal: AbortSignal,
): Promise<Loaded> {
  const query = statement(database, wanted, column);
  const target = new Target(wanted);
  const reader = new BinaryReader(await readBinary(client, query, signal, settingsOf(limits)));
  while (!reader.done) {
    const row = readHead(reader);
    const add = column === 'users' ? readState(reader) : undefined;
    const entries = column === 'entries' ? readEntries(reader) : [];
    for (const { unit, eventName, channel } of target.placesOf(row)) {
      if (add === undefined) unit.addEntries(eventName, channel, entries);
      else unit.addUsers(eventName, channel, row.total, add);
    }
  }
  return target.loaded();
}

/** Between what anything has happened; wider by less than a minute at the end. */
export async function loadBounds(
  client: ClickHouseClient,
  database: string,
  limits: LoadLimits,
  signal: AbortSignal,
): Promise<Loaded> {
  const query = `SELECT level, toUInt32(min(bucket)), toUInt32(max(bucket)), toInt64(max(commits))
    FROM ${tableName(database, 'rollup')} WHERE level IN (0, 1, 4) GROUP BY level FORMAT RowBinary`;
  const reader = new BinaryReader(await readBinary(client, query, signal, settingsOf(limits)));
  const bounds: Bounds = { firstSpan: Infinity, lastSpan: -Infinity, lastSecond: -Infinity };
  let commits = 0;
  while (!reader.done) {
    const [level, first, last, count] = [reader.uint8(), reader.uint32(), reader.uint32(), reader.int64()];
    if (level === 0) commits = count;
    if (level === 1) bounds.lastSecond = ((last + 1) * BUCKET_MS[1]) / 1000 - 1;
    if (level === 4) [bounds.firstSpan, bounds.lastSpan] = [first, last];
  }
  return { commits, units: [], bounds };
}

function statement(database: string, wanted: readonly Wanted[], column: 'users' | 'entries'): string {
  const conditions = wanted.map(({ key, buckets }) => {
    const parts = [`level = ${key.level}`];
    // Minutes are in the table of each event name and channel only.
    const isKept = key.level !== 1 || key.eventName !== '';
    if (key.eventName !== undefined && isKept) parts.push(`event_name = ${quoteText(key.eventName)}`);
    if (key.eventName === undefined && key.level !== 1) parts.push(`event_name != ''`);
    if (key.level !== 1) parts.push(key.channels === 'each' ? `channel != ''` : `channel = ''`);
    return `(${[...parts, `bucket IN (${bucketsIn(key, buckets).join(', ')})`].join(' AND ')})`;
  });
  return `SELECT level, event_name::String, channel::String, bucket, total, toInt64(commits), ${column}
FROM ${tableName(database, 'rollup')}
WHERE level = 0 OR (generation = 0 AND (${conditions.join('\n  OR ')}))
FORMAT RowBinary`;
}

/** The table's buckets that these units are made of. */
function bucketsIn({ joined }: SeriesKey, units: readonly number[]): number[] {
  return units.flatMap((unit) => Array.from({ length: joined }, (_, i) => unit * joined + i));
}

interface Head {
  readonly level: number;
  readonly eventName: string;
  readonly channel: string;
  readonly bucket: number;
  readonly total: number;
  readonly commits: number;
}

function readHead(reader: BinaryReader): Head {
  return {
    level: reader.uint8(),
    eventName: reader.string(),
    channel: reader.string(),
    bucket: reader.uint32(),
    total: reader.int64(),
    commits: reader.int64(),
  };
}

function readEntries(reader: BinaryReader): number[] {
  const entries: number[] = [];
  for (let left = reader.varint(); left > 0; left -= 1) entries.push(reader.int64());
  return entries;
}

/** The state of a groupBitmap, as what adds it to a set. */
function readState(reader: BinaryReader): (users: UserSet) => void {
  const kind = reader.uint8();
  const length = reader.varint();
  if (kind === STATE.list) {
    const numbers = reader.words(length);
    return (users) => {
      for (const number of numbers) users.add(number);
    };
  }
  if (kind !== STATE.bitmap) throw new Error(`ClickHouse has a form of groupBitmap that is not known: ${kind}`);
  const bytes = reader.bytes(length);
  return (users) => users.addPortable(bytes);
}

interface Place {
  readonly unit: Unit;
  readonly eventName: string;
  readonly channel: string;
}

/** What a row's event name is in a series; undefined where the row is not part of it. */
function nameIn({ level, eventName: of }: SeriesKey, eventName: string): string | undefined {
  if (of === undefined) return eventName === '' ? undefined : eventName;
  // Minutes of all names are put together here.
  return of === eventName ? of : of === '' && level === 1 ? '' : undefined;
}

/** Where the rows of one result belong. */
class Target {
  readonly #wanted: readonly Wanted[];
  readonly #units: Map<number, Unit>[];
  #commits = 0;

  constructor(wanted: readonly Wanted[]) {
    this.#wanted = wanted;
    // When all of it was read, the count of commits is known: until then, they are of none.
    this.#units = wanted.map(({ buckets }) => new Map(buckets.map((bucket) => [bucket, new Unit()])));
  }

  /** The units that a row is part of, and what it is called there. */
  placesOf({ level, eventName, channel, bucket, commits }: Head): Place[] {
    if (level === 0) {
      this.#commits = Math.max(this.#commits, commits);
      return [];
    }
    const places: Place[] = [];
    for (const [index, { key }] of this.#wanted.entries()) {
      if (key.level !== level) continue;
      const name = nameIn(key, eventName);
      const isOfChannels = level === 1 || (key.channels === 'together') === (channel === '');
      const unit =
        name === undefined || !isOfChannels ? undefined : this.#units[index]?.get(Math.floor(bucket / key.joined));
      if (name === undefined || unit === undefined) continue;
      places.push({ unit, eventName: name, channel: key.channels === 'together' ? '' : channel });
    }
    return places;
  }

  loaded(): Loaded {
    const units = this.#wanted.flatMap(({ key }, index) =>
      [...(this.#units[index] ?? [])].map(([bucket, unit]) => ({ key, bucket, unit })),
    );
    for (const { unit } of units) unit.loadedAt = this.#commits;
    return { commits: this.#commits, units };
  }
}
