import { sortUnique, writeBitmapState } from './bitmap-state.js';
import type { Deltas, GenerationOf, SortedRows } from './deltas.js';
import type { CommitMark } from './fence.js';
import { LEVEL } from './level.js';
import { RowBinaryWriter, textBytes } from './row-binary-writer.js';
import { WrittenUsers } from './written-users.js';

/**
 * The rows of `rollup` that a commit adds, as RowBinary: of each minute one with its events, and of each hour with many events one for every
 * cell above it that it is part of; ClickHouse puts rows of one key together. Hours with few (late events: most rows of a commit come of
 * them) are put together here, as a row costs ClickHouse more than its users do. Users that a cell has got from the commits before are left
 * out (written-users.ts).
 */

export const CELL_COLUMNS = 'level, event_name, channel, bucket, generation, total, commits, users, entries';
export const CELL_STRUCTURE = `level UInt8, event_name LowCardinality(String), channel LowCardinality(String), bucket UInt32, generation UInt64,
    total Int64, commits UInt64, users AggregateFunction(groupBitmap, UInt32), entries Array(UInt64)`;

export interface EncodedCells {
  readonly rows: number;
  /** Valid until the next call. */
  readonly bytes: Buffer;
}

/** The cells of an event name and channel, either of which may be '': all of them. */
interface Series {
  readonly key: string;
  readonly eventName: string;
  readonly name: Buffer;
  readonly channel: Buffer;
  /** What hours with few events add: by level and bucket. */
  readonly small: Map<number, SmallCell>;
}

interface SmallCell {
  readonly level: number;
  readonly bucket: number;
  readonly generation: number;
  readonly minutes: Minute[];
}

/** A minute and the number of its cell. */
type Minute = readonly [minute: number, cell: number];

const MINUTES_OF_HOUR = 60;
const HOURS_OF_DAY = 24;
const ENTRY_BYTES = 8;
const NO_NAME = textBytes('');
/** Events of an hour that are few. */
const FEW = 32;
const BUCKETS = 2 ** 32;
/** The cells that an hour goes into beside its minutes: by how many hours. */
const LEVELS_ABOVE = [
  { level: LEVEL.hour, hours: 1 },
  { level: LEVEL.day, hours: HOURS_OF_DAY },
  { level: LEVEL.fiveDays, hours: 5 * HOURS_OF_DAY },
] as const;

/** Kept from one commit to the next, with its memory. */
export class CellRows {
  readonly #writer = new RowBinaryWriter();
  readonly #series = new Map<string, Series>();
  readonly #written = new WrittenUsers();
  #users = new Uint32Array(1_024);
  /** Of `#users`, those that a cell has not got. */
  #newUsers = new Uint32Array();
  #rows = 0;

  /** Bytes that are kept for what comes next. */
  get bytes(): number {
    return this.#written.bytes;
  }

  /** The first row counts the commit. `allNames`: whether the events are new to the cells of all event names as well. */
  encode(deltas: Deltas, generationOf: GenerationOf, allNames: boolean, commit: CommitMark): EncodedCells {
    const sorted = deltas.sorted();
    this.#writer.clear();
    this.#series.clear();
    this.#rows = 0;
    this.#written.begin(commit);
    this.#writeCommit(commit);
    for (const { eventName, channel, cells } of deltas.cells) {
      const own = this.#seriesOf(eventName, channel);
      const above = [own, this.#seriesOf(eventName, '')];
      if (allNames) above.push(this.#seriesOf('', channel), this.#seriesOf('', ''));
      for (const [hour, minutes] of minutesByHour(cells, sorted)) {
        this.#writeMinutes(own, generationOf(eventName, Math.floor(hour / HOURS_OF_DAY)), minutes, sorted);
        if (eventsOf(minutes, sorted) > FEW) this.#writeAbove(above, generationOf, hour, minutes, sorted);
        else for (const series of above) addSmall(series, generationOf, hour, minutes);
      }
    }
    for (const series of this.#series.values()) this.#writeSmall(series, sorted);
    return { rows: this.#rows, bytes: this.#writer.bytes() };
  }

  #seriesOf(eventName: string, channel: string): Series {
    const key = `${eventName}\0${channel}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { key, eventName, name: textBytes(eventName), channel: textBytes(channel), small: new Map() };
      this.#series.set(key, series);
    }
    return series;
  }

  #writeCommit({ roller, number }: CommitMark): void {
    this.#writeHead(LEVEL.commits, { name: textBytes(roller), channel: NO_NAME }, 0, 0, 0, number);
    writeBitmapState(this.#writer, this.#users, 0);
    this.#writer.length(0);
  }

  #writeMinutes(series: Series, generation: number, minutes: readonly Minute[], sorted: SortedRows): void {
    for (const minute of minutes) {
      const [from, end] = rowsOf(minute, sorted);
      this.#writeHead(LEVEL.minute, series, minute[0], generation, end - from);
      this.#writeUsers([minute], sorted);
      this.#writeEntries(from, end, sorted);
    }
  }

  /** The users of an hour are the same in all of its cells: they are sorted once, and each cell gets those that it has not got. */
  #writeAbove(
    above: readonly Series[],
    generationOf: GenerationOf,
    hour: number,
    minutes: readonly Minute[],
    sorted: SortedRows,
  ): void {
    const writer = this.#writer;
    const total = eventsOf(minutes, sorted);
    const users = this.#gatherUsers(minutes, sorted);
    if (this.#newUsers.length < users) this.#newUsers = new Uint32Array(this.#users.length);
    for (const series of above) {
      for (const { level, hours } of LEVELS_ABOVE) {
        const bucket = Math.floor(hour / hours);
        const generation = generationAt(level, series, generationOf, hour);
        this.#writeHead(level, series, bucket, generation, total);
        const cell = `${level} ${bucket} ${generation} ${series.key}`;
        const count = this.#written.take(cell, this.#users, users, this.#newUsers);
        writeBitmapState(writer, this.#newUsers, count);
        writer.length(0);
      }
    }
  }

  #writeSmall(series: Series, sorted: SortedRows): void {
    for (const { level, bucket, generation, minutes } of series.small.values()) {
      this.#writeHead(level, series, bucket, generation, eventsOf(minutes, sorted));
      this.#writeUsers(minutes, sorted);
      this.#writer.length(0);
    }
  }

  #writeHead(
    level: number,
    { name, channel }: Pick<Series, 'name' | 'channel'>,
    bucket: number,
    generation: number,
    total: number,
    commits = 0,
  ): void {
    const writer = this.#writer;
    writer.uint8(level);
    writer.raw(name);
    writer.raw(channel);
    writer.uint32(bucket);
    writer.int64(generation);
    writer.int64(total);
    writer.int64(commits);
    this.#rows += 1;
  }

  #writeUsers(minutes: readonly Minute[], sorted: SortedRows): void {
    const count = this.#gatherUsers(minutes, sorted);
    writeBitmapState(this.#writer, this.#users, count);
  }

  /** The users of these minutes, sorted and each once, to the beginning of `#users`; returns how many. */
  #gatherUsers(minutes: readonly Minute[], sorted: SortedRows): number {
    let count = 0;
    for (const minute of minutes) {
      const [from, end] = rowsOf(minute, sorted);
      this.#reserveUsers(count + end - from, count);
      this.#users.set(sorted.uids.subarray(from, end), count);
      count += end - from;
    }
    return sortUnique(this.#users, count);
  }

  #reserveUsers(room: number, used: number): void {
    if (this.#users.length >= room) return;
    const larger = new Uint32Array(room * 2);
    larger.set(this.#users.subarray(0, used));
    this.#users = larger;
  }

  #writeEntries(from: number, end: number, { uids, seconds }: SortedRows): void {
    this.#writer.length(end - from);
    const view = this.#writer.room((end - from) * ENTRY_BYTES);
    for (let i = from; i < end; i += 1) {
      const at = (i - from) * ENTRY_BYTES;
      view.setUint32(at, uids[i] ?? 0, true);
      view.setUint32(at + 4, seconds[i] ?? 0, true);
    }
  }
}

function rowsOf([, cell]: Minute, { bounds }: SortedRows): readonly [from: number, end: number] {
  return [bounds[cell] ?? 0, bounds[cell + 1] ?? 0];
}

function eventsOf(minutes: readonly Minute[], sorted: SortedRows): number {
  let events = 0;
  for (const minute of minutes) {
    const [from, end] = rowsOf(minute, sorted);
    events += end - from;
  }
  return events;
}

/** Adds an hour to the cells above it, to be written when all are known. */
function addSmall(series: Series, generationOf: GenerationOf, hour: number, minutes: readonly Minute[]): void {
  for (const { level, hours } of LEVELS_ABOVE) {
    const bucket = Math.floor(hour / hours);
    const key = level * BUCKETS + bucket;
    const cell = series.small.get(key);
    if (cell !== undefined) cell.minutes.push(...minutes);
    else {
      const generation = generationAt(level, series, generationOf, hour);
      series.small.set(key, { level, bucket, generation, minutes: [...minutes] });
    }
  }
}

/**
 * Cells of five days are not made anew with a day: they stay in the first generation, and whoever asks for a rebuilt day does not read
 * them.
 */
function generationAt(level: number, { eventName }: Series, generationOf: GenerationOf, hour: number): number {
  return level === LEVEL.fiveDays ? 0 : generationOf(eventName, Math.floor(hour / HOURS_OF_DAY));
}

/** Minutes that have something, by hour. */
function minutesByHour(cells: ReadonlyMap<number, number>, sorted: SortedRows): Map<number, Minute[]> {
  const hours = new Map<number, Minute[]>();
  for (const minute of cells) {
    const [from, end] = rowsOf(minute, sorted);
    if (from === end) continue;
    const hour = Math.floor(minute[0] / MINUTES_OF_HOUR);
    const known = hours.get(hour);
    if (known === undefined) hours.set(hour, [minute]);
    else known.push(minute);
  }
  return hours;
}
