import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { ColdSeconds } from './cold-seconds.js';
import { Deltas, type GenerationOf, MINUTE_MS, secondOfEntry } from './deltas.js';
import { dayOf, type Exceptions, LASTING_REASONS } from './exceptions.js';
import { type Identities, keyHash, SEEN, sliceOf } from './identities.js';
import { type CountedCell, difference, minutesWithCells, readCells, readRows } from './load.js';
import { Names } from './names.js';
import { addAll, entriesByMinute, secondOf, since } from './row-groups.js';
import { RowMemory, type RowReader } from './row-reader.js';
import type { RowGroup } from './rows.js';
import { type SecondRange, type Selection, selectRange, selectSeconds } from './selection.js';
import { isWorthIt, partsOf, type Slice } from './slices.js';
import { NO_NUMBER, type UserNumbers } from './user-numbers.js';

/**
 * From rows that were received to what a commit adds: every event that was not counted before, and no other.
 *
 * Invariant 3 (an event counts once) for rollups: a row is added only where its identity is known not to have been counted.
 * That is known of hot seconds from memory, and of others from `rollup_identities`; where it is not known, the whole second
 * is loaded and only the difference is added.
 */
export interface CountingOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly signal: AbortSignal;
  readonly identities: Identities;
  readonly users: UserNumbers;
  readonly exceptions: Exceptions;
  readonly reader: RowReader;
  /** Event names that are rolled, at most. */
  readonly namesMax: number;
  /** Unix ms from which rows are kept; -Infinity: all are. */
  readonly keptFromMs: () => number;
}

/** Seconds that one query asks for. */
const SECONDS_PER_QUERY = 1_000;
const SECONDS_OF_DAY = 86_400;
export class Counting {
  readonly #options: CountingOptions;
  readonly #names = new Names();
  /** What was counted last. */
  readonly #deltas = new Deltas();
  /** Rows that were loaded last. */
  readonly #loaded = new RowMemory();
  /** Seconds that were loaded from raw rows. */
  loadedSeconds = 0;

  constructor(options: CountingOptions) {
    this.#options = options;
  }

  /** Forgets what another roller may have changed. */
  async reset(): Promise<void> {
    const { client, database, signal, identities } = this.#options;
    identities.reset();
    this.#names.clear();
    const result = await client.query({
      query: `SELECT DISTINCT event_name::String AS name FROM ${tableName(database, 'rollup')} WHERE level = 3 AND event_name != ''`,
      format: 'JSONEachRow',
      abort_signal: signal,
    });
    for (const { name } of await result.json<{ name: string }>()) this.#names.add(name);
  }

  get names(): number {
    return this.#names.count;
  }

  /** What these rows, which came at this pace, add; valid until the next call of this or countRange. */
  async countRows(received: readonly RowGroup[], nowMs: number, rowsPerSecond: number): Promise<Deltas> {
    const rows = received.reduce((sum, { count }) => sum + count, 0);
    this.#options.identities.beginStep(rows, rowsPerSecond);
    const groups = await this.#admit(received);
    const uids = await this.#options.users.of(groups);
    await this.#raiseUnnumbered(groups, uids);
    const deltas = this.#deltas;
    deltas.clear();
    const toLoad = await this.#warm(groups, nowMs);
    const changed = new Map<string, { eventName: string; day: number }>();
    this.#countRest(groups, uids, toLoad, deltas, changed);
    await this.#load([...toLoad.values()], nowMs, deltas, changed);
    if (changed.size > 0) await this.#options.exceptions.raise(changed.values(), 'changed');
    return deltas;
  }

  /** What has to be added to what was counted in this range, read from raw rows. */
  async countRange(range: SecondRange, generationOf: GenerationOf): Promise<Deltas> {
    const deltas = this.#deltas;
    deltas.clear();
    const changed = new Map<string, { eventName: string; day: number }>();
    await this.#addDifference(selectRange(range), generationOf, deltas, changed);
    if (changed.size > 0) await this.#options.exceptions.raise(changed.values(), 'changed');
    return deltas;
  }

  /** Writes the keys of what is about to be counted. */
  async noteKeys(deltas: Deltas): Promise<void> {
    const { client, database, signal } = this.#options;
    if (deltas.keys.length === 0) return;
    const { buffer, byteOffset, byteLength } = deltas.keys;
    const result = await client.exec({
      query: `INSERT INTO ${tableName(database, 'rollup_identities')} (key) FORMAT RowBinary`,
      values: Readable.from([Buffer.from(buffer, byteOffset, byteLength)], { objectMode: false }),
      clickhouse_settings: { async_insert: 0, wait_end_of_query: 1 },
      abort_signal: signal,
    });
    await finished(result.stream.resume());
  }

  /** Seconds of this day are asked for again when rows of them come. */
  forgetDay(eventName: string, day: number): void {
    if (!this.#names.has(eventName)) return;
    const name = this.#names.numberOf(eventName);
    this.#options.identities.forgetLate();
    for (let second = day * SECONDS_OF_DAY; second < (day + 1) * SECONDS_OF_DAY; second += 1) {
      this.#options.identities.makeCold(name, second);
    }
  }

  /** Leaves out what is not rolled: days that are gone, event names beyond the bound. */
  async #admit(received: readonly RowGroup[]): Promise<RowGroup[]> {
    const { exceptions, namesMax, keptFromMs } = this.#options;
    const edge = keptFromMs();
    const groups: RowGroup[] = [];
    for (const group of received) {
      if (!this.#names.has(group.eventName)) {
        if (exceptions.namesOverflow) continue;
        if (this.#names.count >= namesMax) {
          await exceptions.raiseNames();
          continue;
        }
        this.#names.add(group.eventName);
      }
      groups.push(edge === -Infinity ? group : since(group, edge));
    }
    return groups;
  }

  /** Days with users beyond the bound are never rolled. */
  async #raiseUnnumbered(groups: readonly RowGroup[], uids: readonly Uint32Array[]): Promise<void> {
    const days = new Map<string, { eventName: string; day: number }>();
    for (const [index, { eventName, count, timestamps }] of groups.entries()) {
      const column = uids[index];
      if (column?.includes(NO_NUMBER) !== true) continue;
      for (let i = 0; i < count; i += 1) {
        if (column[i] !== NO_NUMBER) continue;
        const day = dayOf(Math.floor((timestamps[i] ?? 0) / MINUTE_MS));
        days.set(`${day} ${eventName}`, { eventName, day });
      }
    }
    if (days.size > 0) await this.#options.exceptions.raise(days.values(), LASTING_REASONS.users);
  }

  /**
   * Makes seconds hot that are worth it, where nothing was counted in them yet. Returns those that must be loaded: where something
   * was, and cold ones with an event that may have been counted and is not remembered.
   */
  async #warm(groups: readonly RowGroup[], nowMs: number): Promise<Map<number, Slice>> {
    const { client, database, signal, identities } = this.#options;
    const toLoad = new Map<number, Slice>();
    const cold = new ColdSeconds(groups, this.#names, identities);
    for (const [id, slice] of cold.slices) {
      if (!isWorthIt(slice, nowMs)) continue;
      toLoad.set(id, slice);
      cold.slices.delete(id);
    }
    await this.#follow([...toLoad.values()]);
    for (const [id, { eventName, second }] of toLoad) {
      const name = this.#names.numberOf(eventName);
      if (!identities.isEmpty(name, second)) continue;
      identities.makeHot(name, second);
      toLoad.delete(id);
    }
    identities.beginLate(cold.rows);
    for (const [id, slice] of await cold.doubtful(client, database, signal)) toLoad.set(id, slice);
    return toLoad;
  }

  /** Follows the minutes of these seconds in which nothing was counted yet. */
  async #follow(slices: readonly Slice[]): Promise<void> {
    const { client, database, signal, identities } = this.#options;
    const unknown = slices.filter(
      ({ eventName, second }) => !identities.isFollowed(this.#names.numberOf(eventName), second),
    );
    for (const part of partsOf(unknown, SECONDS_PER_QUERY)) {
      const counted = new Set<number>();
      for (const { eventName, minute } of await minutesWithCells(client, database, selectSeconds(part), signal)) {
        counted.add(this.#sliceOf(eventName, minute));
      }
      for (const { eventName, second } of part) {
        const name = this.#names.numberOf(eventName);
        const minute = Math.floor(second / 60);
        if (!counted.has(sliceOf(name, minute))) identities.follow(name, minute);
      }
    }
  }

  /** Adds the rows of all seconds that are not loaded, as far as they are new: of others than hot ones, all that are not remembered are. */
  #countRest(
    groups: readonly RowGroup[],
    uids: readonly Uint32Array[],
    toLoad: ReadonlyMap<number, Slice>,
    deltas: Deltas,
    changed: Map<string, { eventName: string; day: number }>,
  ): void {
    const { identities } = this.#options;
    for (const [index, group] of groups.entries()) {
      const { eventName, channel, count, timestamps } = group;
      const name = this.#names.numberOf(eventName);
      const nameHash = this.#names.hashOf(eventName);
      const channelNumber = this.#names.channel(channel);
      const minutes = deltas.group(eventName, channel);
      const column = uids[index];
      let last = -1;
      let minute = 0;
      let secondOfMinute = 0;
      let skip = false;
      let hot = false;
      let cell = 0;
      for (let i = 0; i < count; i += 1) {
        const uid = column?.[i] ?? NO_NUMBER;
        const second = secondOf(timestamps, i);
        if (second !== last) {
          last = second;
          minute = Math.floor(second / 60);
          secondOfMinute = second - minute * 60;
          const id = sliceOf(name, second);
          skip = toLoad.has(id);
          hot = !skip && identities.isHot(id);
          if (!skip) {
            cell = deltas.cell(minutes, minute);
            identities.noteCounted(name, second);
          }
        }
        if (skip || uid === NO_NUMBER) continue;
        const seen = hot
          ? identities.see(group, i, name, channelNumber, uid)
          : identities.seeLate(group, i, name, channelNumber, uid);
        if (seen === SEEN.changed) changed.set(`${dayOf(minute)} ${eventName}`, { eventName, day: dayOf(minute) });
        if (seen !== SEEN.no) continue;
        deltas.add(cell, secondOfMinute, uid);
        deltas.addKey(keyHash(group, i, nameHash), minute);
      }
    }
  }

  /** Loads seconds, adds what is new in them, and makes them hot where that is worth it. */
  async #load(
    slices: readonly Slice[],
    nowMs: number,
    deltas: Deltas,
    changed: Map<string, { eventName: string; day: number }>,
  ): Promise<void> {
    this.loadedSeconds += slices.length;
    for (const part of partsOf(slices, SECONDS_PER_QUERY)) {
      const worthIt = part.filter((slice) => isWorthIt(slice, nowMs));
      const { generationOf } = this.#options.exceptions;
      await this.#addDifference(selectSeconds(part), generationOf, deltas, changed, worthIt);
    }
  }

  async #addDifference(
    selection: Selection,
    generationOf: GenerationOf,
    deltas: Deltas,
    changed: Map<string, { eventName: string; day: number }>,
    worthIt: readonly Slice[] = [],
  ): Promise<void> {
    const { client, database, signal, users, identities, reader } = this.#options;
    const counted = new Map<string, CountedCell>();
    for (const cell of await readCells(client, database, selection, generationOf, signal)) {
      counted.set(`${cell.minute} ${cell.channel} ${cell.eventName}`, cell);
    }
    const into = { reader, memory: this.#loaded };
    const groups = await this.#admit(await readRows(client, database, selection, into, signal));
    const uids = await users.of(groups);
    await this.#raiseUnnumbered(groups, uids);
    for (const { eventName, second } of worthIt) identities.makeHot(this.#names.numberOf(eventName), second);
    if (counted.size === 0) addAll(groups, uids, deltas);
    else this.#addMissing(groups, uids, counted, deltas, changed);
    this.#remember(groups, uids, deltas);
    this.#loaded.trim();
  }

  /** Adds the rows that are not in the cells. */
  #addMissing(
    groups: readonly RowGroup[],
    uids: readonly Uint32Array[],
    counted: Map<string, CountedCell>,
    deltas: Deltas,
    changed: Map<string, { eventName: string; day: number }>,
  ): void {
    const { identities } = this.#options;
    for (const [index, group] of groups.entries()) {
      const { eventName, channel } = group;
      const minutes = deltas.group(eventName, channel);
      for (const [minute, entries] of entriesByMinute(group, uids[index])) {
        const key = `${minute} ${channel} ${eventName}`;
        const added = difference(entries, counted.get(key)?.entries);
        counted.delete(key);
        if (added === undefined) {
          changed.set(`${dayOf(minute)} ${eventName}`, { eventName, day: dayOf(minute) });
          // What is not counted as it is must not be remembered as if it were.
          for (let i = 0; i < 60; i += 1) identities.makeCold(this.#names.numberOf(eventName), minute * 60 + i);
          identities.forgetLate();
          continue;
        }
        const cell = deltas.cell(minutes, minute);
        for (const entry of added) deltas.add(cell, secondOfEntry(0, entry), entry % 2 ** 32);
      }
    }
    // Cells whose rows have all gone elsewhere.
    for (const { eventName, minute, entries } of counted.values()) {
      if (entries.length > 0) changed.set(`${dayOf(minute)} ${eventName}`, { eventName, day: dayOf(minute) });
    }
  }

  /** What was loaded is counted with this commit, all of it: it goes into both memories. */
  #remember(groups: readonly RowGroup[], uids: readonly Uint32Array[], deltas: Deltas): void {
    const { identities } = this.#options;
    for (const [index, group] of groups.entries()) {
      const name = this.#names.numberOf(group.eventName);
      const nameHash = this.#names.hashOf(group.eventName);
      const channel = this.#names.channel(group.channel);
      let last = -1;
      let minute = 0;
      let hotSince: number | undefined;
      for (let i = 0; i < group.count; i += 1) {
        const second = secondOf(group.timestamps, i);
        if (second !== last) {
          last = second;
          minute = Math.floor(second / 60);
          identities.noteCounted(name, second);
          hotSince = identities.hotSince(sliceOf(name, second));
        }
        if (hotSince !== undefined)
          identities.remember(group, i, name, channel, uids[index]?.[i] ?? NO_NUMBER, hotSince);
        deltas.addKey(keyHash(group, i, nameHash), minute);
      }
    }
  }

  #sliceOf(eventName: string, time: number): number {
    return sliceOf(this.#names.numberOf(eventName), time);
  }
}
