import {
  type CursorValue,
  type Dimension,
  groupMembers,
  isTime,
  type MetricsQuestion,
  type SortKey,
  sortKeys,
} from '../../shared/metrics/parameters.js';
import { BUCKET_MS, type CellRead, type Plan, type TimeRange } from '../../shared/metrics/plan.js';
import { planQuestion } from '../../shared/metrics/rollup-statement.js';
import { type MetricsRow, TIME_BUCKET_MS } from '../../shared/metrics/statement.js';
import { type Cell, JOINED_HOURS, type SeriesKey, type Unit, unitMs } from './cell.js';
import type { Bounds } from './mirror.js';
import { UserSet, UserUnion } from './user-set.js';

/** A question's answer out of cells in memory: which it needs, and what they add up to. Pure, but for the sets of users that it makes and throws away. */

const LEVEL_OF_HOURS = 2;

/** Units of one series: [first, end). */
export interface Need {
  readonly key: SeriesKey;
  readonly first: number;
  readonly end: number;
  /** Of the events of these minutes, those within count. */
  readonly within?: TimeRange;
}

/** What there is outside of the bounds is nothing, and is not read. */
export function needsOf(question: MetricsQuestion, { firstSpan, lastSpan, lastSecond }: Bounds): Need[] {
  // Whatever ends behind the last event ends with whole buckets.
  const isOpen = question.to === undefined || question.to >= lastSecond;
  const plan = planQuestion(isOpen ? { ...question, to: undefined } : question, true);
  const [fromMs, toMs] = [firstSpan * BUCKET_MS[4], (lastSpan + 1) * BUCKET_MS[4]];
  return needsOfPlan(question, plan).flatMap((need) => {
    const size = unitMs(need.key);
    const [first, end] = [Math.max(need.first, fromMs / size), Math.min(need.end, toMs / size)];
    return first < end ? [{ ...need, first, end }] : [];
  });
}

function needsOfPlan(question: MetricsQuestion, { reads, ends }: Plan): Need[] {
  const key = keyOf(question);
  const ofRead = ({ level, first, end }: CellRead): Need[] => {
    const isJoined = level === LEVEL_OF_HOURS && !question.groupBy.includes('hour');
    const runs = isJoined ? joinedHours(first, end) : [{ joined: 1, first, end }];
    return runs.map((run) => ({
      key: { ...key, level, joined: run.joined, events: false },
      first: run.first,
      end: run.end,
    }));
  };
  const ofEnd = (within: TimeRange): Need => ({
    key: { ...key, level: 1, joined: 1, events: true },
    first: Math.floor(within.fromMs / BUCKET_MS[1]),
    end: Math.ceil(within.toMs / BUCKET_MS[1]),
    within,
  });
  return [...reads.flatMap(ofRead), ...ends.map(ofEnd)];
}

interface JoinedHours {
  readonly joined: number;
  readonly first: number;
  readonly end: number;
}

/** The hours [first, end) in few units: of the largest size that there is room for, and what is before and behind these in smaller ones. */
function joinedHours(first: number, end: number, sizes: readonly number[] = JOINED_HOURS): JoinedHours[] {
  if (first >= end) return [];
  const [size, ...smaller] = sizes;
  if (size === undefined) return [{ joined: 1, first, end }];
  const [firstWhole, endWhole] = [Math.ceil(first / size), Math.floor(end / size)];
  if (firstWhole >= endWhole) return joinedHours(first, end, smaller);
  return [
    ...joinedHours(first, firstWhole * size, smaller),
    { joined: size, first: firstWhole, end: endWhole },
    ...joinedHours(endWhole * size, end, smaller),
  ];
}

function keyOf({ eventName, channel, groupBy }: MetricsQuestion): Pick<SeriesKey, 'eventName' | 'channels'> {
  const eachName = groupBy.includes('event_name');
  const eachChannel = channel !== undefined || groupBy.includes('channel');
  return {
    eventName: eventName ?? (eachName ? undefined : ''),
    channels: eachChannel ? 'each' : 'together',
  };
}

interface Group {
  readonly first: CursorValue;
  readonly second: CursorValue;
  total: number;
  readonly users: UserSet;
  /** The sets of its other cells; most groups have one. */
  more: UserSet[] | undefined;
}

/** Adds up what a question needs; what it needs must be there. */
export class Sum {
  readonly #question: MetricsQuestion;
  readonly #members: readonly Dimension[];
  /** By the first value and the second; where the question has no such member, 0. */
  readonly #groups = new Map<CursorValue, Map<CursorValue, Group>>();
  /** Where the last group was found: the cells of an hour come one after the other. */
  #lastValue: CursorValue | undefined;
  #last = new Map<CursorValue, Group>();

  constructor(question: MetricsQuestion) {
    this.#question = question;
    this.#members = groupMembers(question.groupBy);
  }

  add({ key, within }: Need, bucket: number, unit: Unit): void {
    const { channel } = this.#question;
    const [first, second] = this.#members;
    const ms = bucket * unitMs(key);
    // Of a bucket, not of each cell in it.
    const firstTime = first === undefined ? 0 : timeOf(first, ms);
    const secondTime = second === undefined ? 0 : timeOf(second, ms);
    for (const cell of unit.cells) {
      if (channel !== undefined && cell.channel !== channel) continue;
      const { total, users } = within === undefined ? cell : eventsWithin(cell, ms, within);
      if (users === undefined) continue;
      this.#addTo(firstTime ?? nameOf(first, cell), secondTime ?? nameOf(second, cell), total, users);
    }
  }

  /** The rows of the answer as a statement would give them: behind the cursor, in order, one more than a page. */
  rows(): MetricsRow[] {
    const { length } = this.#members;
    if (length === 2) return this.#page().map((group) => [group.first, group.second, group.total, countOf(group)]);
    if (length === 1) return this.#page().map((group) => [group.first, group.total, countOf(group)]);
    const [all] = this.#groups.get(0)?.values() ?? [];
    return [all === undefined ? [0, 0] : [all.total, countOf(all)]];
  }

  #addTo(first: CursorValue, second: CursorValue, total: number, users: UserSet): void {
    if (first !== this.#lastValue) {
      let groups = this.#groups.get(first);
      if (groups === undefined) this.#groups.set(first, (groups = new Map<CursorValue, Group>()));
      this.#lastValue = first;
      this.#last = groups;
    }
    const group = this.#last.get(second);
    if (group === undefined) {
      this.#last.set(second, { first, second, total, users, more: undefined });
      return;
    }
    group.total += total;
    if (group.more === undefined) group.more = [users];
    else group.more.push(users);
  }

  #page(): Group[] {
    const { after, limit, groupBy } = this.#question;
    const keys = sortKeys(groupBy).map((key) => valueReader(key, this.#members));
    const page: Group[] = [];
    for (const groups of this.#inOrderOfTime()) {
      if (page.length > limit) break;
      // What was counted and taken out again leaves a cell of nothing.
      const some = groups.filter(
        (group) => group.total > 0 && (after === undefined || orderOf(group, (_, at) => after[at] ?? '', keys) > 0),
      );
      if (some.length > 1) some.sort((a, b) => orderOf(a, ({ of }) => of(b), keys));
      for (const group of some) page.push(group);
    }
    return page.slice(0, limit + 1);
  }

  /** Groups that are to be sorted among each other: where a time comes first, those of one hour or day, or else all. */
  #inOrderOfTime(): Group[][] {
    const [first] = this.#members;
    if (first === undefined || !isTime(first))
      return [[...this.#groups.values()].flatMap((groups) => [...groups.values()])];
    const inOrder = [...this.#groups].toSorted(([a], [b]) => Number(a) - Number(b));
    return inOrder.map(([, groups]) => [...groups.values()]);
  }
}

/** A step of the order of groups. */
interface OrderKey {
  readonly of: (group: Group) => CursorValue;
  /** The largest comes first. */
  readonly isDown: boolean;
}

function valueReader(key: SortKey, [first]: readonly Dimension[]): OrderKey {
  if (key === 'total') return { of: ({ total }) => total, isDown: true };
  return { of: key === first ? (group) => group.first : (group) => group.second, isDown: false };
}

/** Where a group belongs: below 0 before what has these values, above 0 behind it. */
function orderOf(group: Group, valueOf: (key: OrderKey, at: number) => CursorValue, keys: readonly OrderKey[]): number {
  for (const [at, key] of keys.entries()) {
    const difference = compare(key.of(group), valueOf(key, at));
    if (difference !== 0) return key.isDown ? -difference : difference;
  }
  return 0;
}

/** Of a minute's events, those that are within. */
function eventsWithin(cell: Cell, minuteMs: number, { fromMs, toMs }: TimeRange): Pick<Cell, 'total' | 'users'> {
  const entries = cell.entries ?? [];
  const kept = new Uint32Array(entries.length);
  let total = 0;
  for (const entry of entries) {
    const atMs = minuteMs + Math.floor(entry / 2 ** 32) * 1000;
    if (atMs < fromMs || atMs >= toMs) continue;
    kept[total] = entry >>> 0;
    total += 1;
  }
  return { total, users: total === 0 ? undefined : UserSet.of(kept.subarray(0, total)) };
}

const union = new UserUnion();

function countOf({ users, more }: Group): number {
  if (more === undefined) return users.size;
  union.begin();
  union.add(users);
  for (const set of more) union.add(set);
  return union.size;
}

/** The number of the hour or day; undefined where it is a name that counts. */
function timeOf(dimension: Dimension, ms: number): number | undefined {
  return isTime(dimension) ? Math.floor(ms / TIME_BUCKET_MS[dimension]) : undefined;
}

function nameOf(dimension: Dimension | undefined, { channel, eventName }: Cell): string {
  return dimension === 'channel' ? channel : eventName;
}

/** Numbers as such, names by their bytes, as ClickHouse has it. */
function compare(a: CursorValue, b: CursorValue): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return a === b ? 0 : Buffer.compare(Buffer.from(String(a)), Buffer.from(String(b)));
}
