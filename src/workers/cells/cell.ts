import type { GroupsText } from '../../shared/metrics/answer.js';
import { BUCKET_MS, type Level } from '../../shared/metrics/plan.js';
import { UserSet } from './user-set.js';

/**
 * Cells of `rollup` in memory, by series and bucket. Plain state and what changes it; what is to be here, and until when it is right,
 * is the mirror's business (mirror.ts).
 */

/** Which cells of a level: of one event name ('' is all of them together) or of each, of each channel or of all together. */
export interface SeriesKey {
  readonly level: Level;
  /** Buckets of that level in one unit: of hours, one of JOINED_HOURS or 1. */
  readonly joined: number;
  readonly eventName: string | undefined;
  readonly channels: 'each' | 'together';
  /** Of minutes: with each of their events, for ranges that begin or end within one, instead of the set of users. */
  readonly events: boolean;
}

/**
 * Hours that are joined where nobody asks for them one by one: the ends of a range are up to 46 of them, and what an answer takes is
 * their sets of users. In the table there are none of these: each row there is written many times, and here only what is asked for.
 */
export const JOINED_HOURS = [12, 6, 3] as const;

/** What one cell counts. */
export interface Cell {
  readonly eventName: string;
  readonly channel: string;
  total: number;
  /** Undefined where there are `entries`. */
  readonly users: UserSet | undefined;
  /** second << 32 | user. */
  readonly entries: number[] | undefined;
}

/** Objects around a cell, in bytes: about as much. */
const CELL_BYTES = 160;
const UNIT_BYTES = 160;
const ENTRY_BYTES = 8;
/** Objects around a text. */
const TEXT_BYTES = 300;

/** All cells of a series in one bucket, or some that are joined: none is missing. */
export class Unit {
  /** Commits up to this one are in it from the start. */
  loadedAt = 0;
  /** When it was last wanted; counts questions. */
  usedAt = 0;
  bytes = UNIT_BYTES;
  readonly #cells = new Map<string, Cell>();
  /** Its groups in an answer, as they are now. */
  #text: { readonly form: string; readonly groups: GroupsText; readonly bytes: number } | undefined;

  get cells(): Iterable<Cell> {
    return this.#cells.values();
  }

  /** Adds to a cell with users: to its total, and to its set whatever `add` adds. */
  addUsers(eventName: string, channel: string, total: number, add: (users: UserSet) => void): void {
    const cell = this.#cell(eventName, channel, false);
    this.#dropText();
    cell.total += total;
    if (cell.users === undefined) return;
    const before = cell.users.bytes;
    add(cell.users);
    this.bytes += cell.users.bytes - before;
  }

  /** Adds to a cell with its events. */
  addEntries(eventName: string, channel: string, added: Iterable<number>): void {
    const cell = this.#cell(eventName, channel, true);
    for (const entry of added) {
      cell.entries?.push(entry);
      cell.total += 1;
      this.bytes += ENTRY_BYTES;
    }
  }

  /** What was kept in this form. */
  textAs(form: string): GroupsText | undefined {
    return this.#text?.form === form ? this.#text.groups : undefined;
  }

  /** Keeps its groups' text until users are added, or one of another form is kept. Returns by how many bytes the unit has grown. */
  keepText(form: string, groups: GroupsText): number {
    const before = this.bytes;
    this.#dropText();
    this.#text = { form, groups, bytes: TEXT_BYTES + groups.bytes.length };
    this.bytes += this.#text.bytes;
    return this.bytes - before;
  }

  #dropText(): void {
    this.bytes -= this.#text?.bytes ?? 0;
    this.#text = undefined;
  }

  #cell(eventName: string, channel: string, events: boolean): Cell {
    const key = `${channel}\0${eventName}`;
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      const users = events ? undefined : new UserSet();
      cell = { eventName, channel, total: 0, users, entries: events ? [] : undefined };
      this.#cells.set(key, cell);
      this.bytes += CELL_BYTES + 2 * key.length + (users?.bytes ?? 0);
    }
    return cell;
  }
}

export class Series {
  readonly key: SeriesKey;
  /** By bucket, divided by how many are joined. */
  readonly units = new Map<number, Unit>();

  constructor(key: SeriesKey) {
    this.key = key;
  }

  /** The event name of the cells that an event of `eventName` goes into; undefined where it goes into none. */
  nameFor(eventName: string): string | undefined {
    const of = this.key.eventName;
    return of === undefined || of === eventName ? eventName : of === '' ? '' : undefined;
  }
}

/** How much time a unit of a series is. */
export function unitMs({ level, joined }: SeriesKey): number {
  return BUCKET_MS[level] * joined;
}

export function seriesName({ level, joined, eventName, channels, events }: SeriesKey): string {
  return `${level} ${joined} ${channels} ${events} ${eventName === undefined ? '*' : `=${eventName}`}`;
}
