import { type AddedGroup, CELLS_OF, type CommitMessage } from '../../shared/cells.js';
import { BUCKET_MS } from '../../shared/metrics/plan.js';
import { Series, type SeriesKey, seriesName, type Unit, unitMs } from './cell.js';
import type { UserSet } from './user-set.js';

/**
 * Cells of the table `rollup` in memory, kept up to date by what the roller commits.
 *
 * Invariant: while `commits` is not undefined, each unit here holds what the table held after that commit, all of it and nothing
 * else. A unit is read in one scan together with the count of commits (load.ts); of the commits that the roller tells of, those that
 * it has not are added to it, in their order, none left out. Where one is missing, because another instance rolls, everything is
 * thrown away.
 *
 * Only cells of the first generation are here. Who asks knows which days were made anew since, and goes elsewhere for those.
 */

export interface Bounds {
  /** Spans of five days: nothing happened before the first, or behind the last. */
  firstSpan: number;
  lastSpan: number;
  /** Nothing happened later, Unix seconds. */
  lastSecond: number;
}

/** What was read of the table in one scan. */
export interface Loaded {
  readonly commits: number;
  readonly units: readonly { readonly key: SeriesKey; readonly bucket: number; readonly unit: Unit }[];
  readonly bounds?: Bounds;
}

type Added = Extract<CommitMessage, { type: 'added' }>;

/** Commits are kept while something is being loaded, up to so many events: 8 bytes each. */
const HISTORY_EVENTS_MAX = 4_000_000;
/** Above the limit, so much is thrown away that it is not reached again at once. */
const KEPT_SHARE = 0.8;
const MINUTES_OF_SPAN = BUCKET_MS[4] / BUCKET_MS[1];

export class CellMirror {
  readonly #bytesMax: number;
  readonly #series = new Map<string, Series>();
  #commits: number | undefined;
  #bounds: Bounds | undefined;
  #bytes = 0;
  #excepted = 0;
  #questions = 0;
  /** Counts how often everything was thrown away. */
  #life = 0;
  /** Commits since a load began; undefined while there is none. */
  #history: Added[] | undefined;
  #historyEvents = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The commit that everything here is of; undefined while that is not known. */
  get commits(): number | undefined {
    return this.#commits;
  }

  /** How often the roller has written exceptions. */
  get excepted(): number {
    return this.#excepted;
  }

  /** Undefined until they were loaded. */
  get bounds(): Bounds | undefined {
    return this.#bounds;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes what the roller says. */
  follow(message: CommitMessage): void {
    switch (message.type) {
      case 'at':
        if (message.commits === this.#commits) return;
        this.#clear();
        this.#commits = message.commits;
        return;
      case 'added':
        if (message.commits !== (this.#commits ?? 0) + 1) this.#clear();
        this.#commits = message.commits;
        this.#add(message);
        return;
      case 'excepted':
        this.#excepted += 1;
        return;
      case 'lost':
      default:
        this.lose();
    }
  }

  /** Nobody tells of commits any more. */
  lose(): void {
    this.#clear();
    this.#commits = undefined;
  }

  /** Undefined where nothing of it is here. */
  units(key: SeriesKey): ReadonlyMap<number, Unit> | undefined {
    return this.#series.get(seriesName(key))?.units;
  }

  /** A question is answered next; what it finds is used at this moment. */
  beginQuestion(): number {
    this.#questions += 1;
    return this.#questions;
  }

  /** From now on, commits are kept for what is being loaded. Returns what `install` wants to know. */
  beginLoad(): number {
    this.#history = [];
    this.#historyEvents = 0;
    return this.#life;
  }

  /** Takes over what was loaded; false where it cannot be brought up to date. */
  install(life: number, { commits, units, bounds }: Loaded): boolean {
    const history = this.#history;
    this.#history = undefined;
    if (history === undefined || life !== this.#life || this.#commits === undefined) return false;
    if (bounds !== undefined) this.#bounds = bounds;
    const loaded = this.#putIn(units);
    for (const message of history) {
      for (const group of message.groups) {
        this.#widen(group);
        if (message.commits <= commits) continue;
        for (const [series, only] of loaded) this.#addTo(series, group, message.commits, only);
      }
    }
    return true;
  }

  abandonLoad(): void {
    this.#history = undefined;
  }

  /** Units that are here keep more than they did, by so many bytes. */
  grew(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Throws away what was not wanted for longest, above the limit. */
  shrink(): void {
    if (this.#bytes <= this.#bytesMax) return;
    const all: { series: Series; bucket: number; unit: Unit }[] = [];
    for (const series of this.#series.values()) {
      for (const [bucket, unit] of series.units) all.push({ series, bucket, unit });
    }
    all.sort((a, b) => a.unit.usedAt - b.unit.usedAt);
    for (const { series, bucket, unit } of all) {
      if (this.#bytes <= this.#bytesMax * KEPT_SHARE) break;
      this.#bytes -= unit.bytes;
      series.units.delete(bucket);
      if (series.units.size === 0) this.#series.delete(seriesName(series.key));
    }
  }

  /** Which buckets of which series these are. */
  #putIn(units: Loaded['units']): Map<Series, Set<number>> {
    const put = new Map<Series, Set<number>>();
    for (const { key, bucket, unit } of units) {
      const name = seriesName(key);
      const series = this.#series.get(name) ?? new Series(key);
      this.#series.set(name, series);
      const before = series.units.get(bucket);
      this.#bytes += unit.bytes - (before?.bytes ?? 0);
      series.units.set(bucket, unit);
      unit.usedAt = this.#questions;
      put.set(series, (put.get(series) ?? new Set()).add(bucket));
    }
    return put;
  }

  #clear(): void {
    this.#series.clear();
    this.#bounds = undefined;
    this.#bytes = 0;
    this.#life += 1;
  }

  #add(message: Added): void {
    if (this.#history !== undefined) {
      this.#history.push(message);
      for (const { entries } of message.groups) this.#historyEvents += entries.length;
      if (this.#historyEvents > HISTORY_EVENTS_MAX) this.#history = undefined;
    }
    for (const group of message.groups) {
      this.#widen(group);
      for (const series of this.#series.values()) this.#addTo(series, group, message.commits);
    }
    this.shrink();
  }

  /** Bounds may be too wide, never too narrow. */
  #widen({ minutes, entries, ends }: AddedGroup): void {
    const bounds = this.#bounds;
    if (bounds === undefined) return;
    let at = 0;
    for (const [index, minute] of minutes.entries()) {
      const span = Math.floor(minute / MINUTES_OF_SPAN);
      bounds.firstSpan = Math.min(bounds.firstSpan, span);
      bounds.lastSpan = Math.max(bounds.lastSpan, span);
      const end = ends[index] ?? at;
      if (minute * 60 + 59 > bounds.lastSecond) {
        for (; at < end; at += 1) {
          const second = minute * 60 + Math.floor((entries[at] ?? 0) / 2 ** 32);
          if (second > bounds.lastSecond) bounds.lastSecond = second;
        }
      }
      at = end;
    }
  }

  /** Adds a group to the units of a series that do not have it yet; `only`: to no other units than these. */
  #addTo(series: Series, group: AddedGroup, commits: number, only?: ReadonlySet<number>): void {
    const { level, channels, events } = series.key;
    const name = series.nameFor(group.eventName);
    if (name === undefined) return;
    const channel = channels === 'each' ? group.channel : '';
    const wanted = level === 4 ? 0 : name === '' ? CELLS_OF.allNames : CELLS_OF.name;
    const minutesOfUnit = unitMs(series.key) / BUCKET_MS[1];
    const { minutes, ends, entries, cells } = group;
    for (let first = 0; first < minutes.length;) {
      const bucket = Math.floor((minutes[first] ?? 0) / minutesOfUnit);
      const from = first === 0 ? 0 : (ends[first - 1] ?? 0);
      let behind = first + 1;
      // Minutes of an hour, a day, a span mostly follow each other: they are added at once.
      while (
        behind < minutes.length &&
        Math.floor((minutes[behind] ?? 0) / minutesOfUnit) === bucket &&
        cells[behind] === cells[first]
      ) {
        behind += 1;
      }
      const end = ends[behind - 1] ?? from;
      const isFirstGeneration = ((cells[first] ?? 0) & wanted) === wanted;
      first = behind;
      const unit = series.units.get(bucket);
      if (unit === undefined || unit.loadedAt >= commits || !isFirstGeneration) continue;
      if (only?.has(bucket) === false) continue;
      const before = unit.bytes;
      const added = entries.subarray(from, end);
      if (events) unit.addEntries(name, channel, added);
      else unit.addUsers(name, channel, added.length, (users) => addAll(users, added));
      this.#bytes += unit.bytes - before;
    }
  }
}

/** The lower word of an entry is its user: what `>>> 0` makes of it. */
function addAll(users: UserSet, entries: Float64Array): void {
  for (const entry of entries) users.add(entry >>> 0);
}
