import {
  type CursorValue,
  type Dimension,
  groupMembers,
  type MetricsQuestion,
  sortKeys,
} from '../../shared/metrics/parameters.js';
import { BUCKET_MS, type CellRead, type Level, type Plan, type TimeRange } from '../../shared/metrics/plan.js';
import { planQuestion } from '../../shared/metrics/rollup-statement.js';
import { type MetricsRow, TIME_BUCKET_MS } from '../../shared/metrics/statement.js';
import type { Cell, SeriesKey, Unit } from './cell.js';
import type { Bounds } from './mirror.js';
import { UserSet, UserUnion } from './user-set.js';

/** A question's answer out of cells in memory: which it needs, and what they add up to. Pure, but for the sets of users that it makes and throws away. */

/** Buckets of one series: [first, end). */
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
    const size = BUCKET_MS[need.key.level];
    const [first, end] = [Math.max(need.first, fromMs / size), Math.min(need.end, toMs / size)];
    return first < end ? [{ ...need, first, end }] : [];
  });
}

function needsOfPlan(question: MetricsQuestion, { reads, ends }: Plan): Need[] {
  const ofRead = ({ level, first, end }: CellRead): Need => ({ key: keyOf(question, level, false), first, end });
  const ofEnd = (within: TimeRange): Need => ({
    key: keyOf(question, 1, true),
    first: Math.floor(within.fromMs / BUCKET_MS[1]),
    end: Math.ceil(within.toMs / BUCKET_MS[1]),
    within,
  });
  return [...reads.map(ofRead), ...ends.map(ofEnd)];
}

function keyOf({ eventName, channel, groupBy }: MetricsQuestion, level: Level, events: boolean): SeriesKey {
  const eachName = groupBy.includes('event_name');
  const eachChannel = channel !== undefined || groupBy.includes('channel');
  return {
    level,
    events,
    eventName: eventName ?? (eachName ? undefined : ''),
    channels: eachChannel ? 'each' : 'together',
  };
}

interface Group {
  readonly values: readonly CursorValue[];
  total: number;
  readonly users: UserSet[];
}

/** Adds up what a question needs; what it needs must be there. */
export class Sum {
  readonly #question: MetricsQuestion;
  readonly #members: readonly Dimension[];
  /** By the first value and the second. */
  readonly #groups = new Map<CursorValue, Map<CursorValue, Group>>();

  constructor(question: MetricsQuestion) {
    this.#question = question;
    this.#members = groupMembers(question.groupBy);
  }

  add({ key, within }: Need, bucket: number, unit: Unit): void {
    const { channel } = this.#question;
    for (const cell of unit.cells) {
      if (channel !== undefined && cell.channel !== channel) continue;
      if (within !== undefined) this.#addEvents(cell, bucket, within);
      else if (cell.users !== undefined) this.#addTo(cell, key.level, bucket, cell.total, cell.users);
    }
  }

  /** The rows of the answer as a statement would give them: behind the cursor, in order, one more than a page. */
  rows(): MetricsRow[] {
    if (this.#members.length > 0) return this.#page().map((group) => [...group.values, group.total, countOf(group)]);
    const [all] = this.#all();
    return [all === undefined ? [0, 0] : [all.total, countOf(all)]];
  }

  #addEvents(cell: Cell, minute: number, { fromMs, toMs }: TimeRange): void {
    const users = new UserSet();
    let total = 0;
    for (const entry of cell.entries ?? []) {
      const atMs = minute * BUCKET_MS[1] + Math.floor(entry / 2 ** 32) * 1000;
      if (atMs < fromMs || atMs >= toMs) continue;
      users.add(entry >>> 0);
      total += 1;
    }
    if (total > 0) this.#addTo(cell, 1, minute, total, users);
  }

  #addTo(cell: Cell, level: Level, bucket: number, total: number, users: UserSet): void {
    const [first, second] = this.#members;
    const g0 = first === undefined ? 0 : valueOf(first, cell, level, bucket);
    const g1 = second === undefined ? 0 : valueOf(second, cell, level, bucket);
    let groups = this.#groups.get(g0);
    if (groups === undefined) this.#groups.set(g0, (groups = new Map<CursorValue, Group>()));
    const group = groups.get(g1);
    if (group === undefined) {
      groups.set(g1, { values: [g0, g1].slice(0, this.#members.length), total, users: [users] });
      return;
    }
    group.total += total;
    group.users.push(users);
  }

  #all(): Group[] {
    return [...this.#groups.values()].flatMap((groups) => [...groups.values()]);
  }

  #page(): Group[] {
    const { after, limit } = this.#question;
    const keys = sortKeys(this.#question.groupBy);
    const indexes = keys.map((key) => (key === 'total' ? -1 : this.#members.indexOf(key)));
    const valueAt = ({ values, total }: Group, at: number): CursorValue => {
      const index = indexes[at] ?? -1;
      return index === -1 ? total : (values[index] ?? '');
    };
    const order = (group: Group, valueOfOther: (at: number) => CursorValue): number => {
      for (let at = 0; at < indexes.length; at += 1) {
        const difference = compare(valueAt(group, at), valueOfOther(at));
        if (difference !== 0) return indexes[at] === -1 ? -difference : difference;
      }
      return 0;
    };
    // What was counted and taken out again leaves a cell of nothing.
    const groups = this.#all().filter(
      (group) => group.total > 0 && (after === undefined || order(group, (at) => after[at] ?? '') > 0),
    );
    groups.sort((a, b) => order(a, (at) => valueAt(b, at)));
    return groups.slice(0, limit + 1);
  }
}

const union = new UserUnion();

function countOf({ users }: Group): number {
  const [first] = users;
  if (users.length === 1 && first !== undefined) return first.size;
  union.begin();
  for (const set of users) union.add(set);
  return union.size;
}

function valueOf(dimension: Dimension, cell: Cell, level: Level, bucket: number): CursorValue {
  if (dimension === 'channel') return cell.channel;
  if (dimension === 'event_name') return cell.eventName;
  return Math.floor((bucket * BUCKET_MS[level]) / TIME_BUCKET_MS[dimension]);
}

/** Numbers as such, names by their bytes, as ClickHouse has it. */
function compare(a: CursorValue, b: CursorValue): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return a === b ? 0 : Buffer.compare(Buffer.from(String(a)), Buffer.from(String(b)));
}
