import { type GroupsText, groupsWriter, type MetricsPage } from '../../shared/metrics/answer.js';
import {
  type CursorValue,
  type Dimension,
  groupMembers,
  isTime,
  type MetricsQuestion,
  type SortKey,
  sortKeys,
} from '../../shared/metrics/parameters.js';
import type { TimeRange } from '../../shared/metrics/plan.js';
import { type MetricsRow, TIME_BUCKET_MS } from '../../shared/metrics/statement.js';
import { type Cell, type Unit, unitMs } from './cell.js';
import type { Need } from './needs.js';
import { UserSet, UserUnion } from './user-set.js';

/**
 * What cells in memory add up to, as a page of an answer. Pure, but for texts that units keep. Where groups are of an hour or a day
 * first, a unit of that size is all there is of it: its groups are sorted and written once, and again when it has changed.
 */

interface Group {
  readonly first: CursorValue;
  readonly second: CursorValue;
  total: number;
  readonly users: UserSet;
  /** The sets of its other cells; most groups have one. */
  more: UserSet[] | undefined;
}

/** Groups of one first value, by their second; where the question has no such member, by 0. */
type Groups = Map<CursorValue, Group>;

/** What comes one after the other in an answer: groups that are sorted among each other, or a unit that has them. */
type Block = { readonly groups: readonly Group[] } | WholeUnit;

interface WholeUnit {
  readonly unit: Unit;
  /** Its hour or day. */
  readonly time: number;
  readonly ms: number;
}

/** Adds up what a question needs; what it needs must be there. */
export class Sum {
  readonly #question: MetricsQuestion;
  readonly #members: readonly Dimension[];
  readonly #keys: readonly OrderKey[];
  /** By the first value; where the question has no such member, 0. */
  readonly #groups = new Map<CursorValue, Groups>();
  /** Units that are all there is of an hour or a day of the answer, by its number. */
  readonly #whole = new Map<number, Unit>();
  /** Where the last group was found: the cells of an hour come one after the other. */
  #lastValue: CursorValue | undefined;
  #last: Groups = new Map<CursorValue, Group>();
  #keptBytes = 0;

  constructor(question: MetricsQuestion) {
    this.#question = question;
    this.#members = groupMembers(question.groupBy);
    this.#keys = sortKeys(question.groupBy).map((key) => valueReader(key, this.#members));
  }

  /** By how much units have grown: bytes of the texts that they keep now. */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  add({ key, within }: Need, bucket: number, unit: Unit): void {
    const { channel } = this.#question;
    const [first, second] = this.#members;
    const size = unitMs(key);
    const isWhole = first !== undefined && isTime(first) && TIME_BUCKET_MS[first] === size;
    if (isWhole && channel === undefined) {
      this.#whole.set(bucket, unit);
      return;
    }
    const ms = bucket * size;
    // Of a bucket, not of each cell in it.
    const firstTime = timeOf(first, ms);
    const secondTime = timeOf(second, ms);
    for (const cell of unit.cells) {
      if (channel !== undefined && cell.channel !== channel) continue;
      const { total, users } = within === undefined ? cell : eventsWithin(cell, ms, within);
      if (users === undefined) continue;
      const value = firstTime ?? nameOf(first, cell);
      addTo(this.#groupsOf(value), value, secondTime ?? nameOf(second, cell), total, users);
    }
  }

  /** What is behind the cursor, in order, as far as a page goes. */
  page(): MetricsPage {
    const { groupBy, limit } = this.#question;
    if (groupBy.length === 0) {
      const all = this.#groups.get(0)?.get(0);
      return { counts: all === undefined ? [0, 0] : [all.total, countOf(all)] };
    }
    const write = groupsWriter(groupBy);
    const texts: GroupsText[] = [];
    let room = limit;
    for (const block of this.#blocks()) {
      const whole = this.#textOf(block, write);
      if (whole !== undefined && whole.count <= room) {
        texts.push(whole);
        room -= whole.count;
        continue;
      }
      const rows = this.#rowsOf(block);
      texts.push(write(rows.slice(0, room)));
      if (rows.length > room) return { texts, isLast: false };
      room -= rows.length;
    }
    return { texts, isLast: true };
  }

  #groupsOf(first: CursorValue): Groups {
    if (first !== this.#lastValue) {
      let groups = this.#groups.get(first);
      if (groups === undefined) this.#groups.set(first, (groups = new Map<CursorValue, Group>()));
      this.#lastValue = first;
      this.#last = groups;
    }
    return this.#last;
  }

  /** Where a time comes first, one for each hour or day, or else all in one. */
  #blocks(): Block[] {
    const [first] = this.#members;
    if (first === undefined || !isTime(first)) {
      return [{ groups: [...this.#groups.values()].flatMap((groups) => [...groups.values()]) }];
    }
    const inOrder: [number, Block][] = [];
    for (const [value, groups] of this.#groups) inOrder.push([Number(value), { groups: [...groups.values()] }]);
    for (const [time, unit] of this.#whole) inOrder.push([time, { unit, time, ms: time * TIME_BUCKET_MS[first] }]);
    return inOrder.toSorted(([a], [b]) => a - b).map(([, block]) => block);
  }

  /** The text of a unit's groups; undefined where these are none, or the cursor may be among them. */
  #textOf(block: Block, write: (rows: readonly MetricsRow[]) => GroupsText): GroupsText | undefined {
    const { after, groupBy } = this.#question;
    if (!('unit' in block) || (after !== undefined && block.time <= Number(after[0]))) return undefined;
    const form = groupBy.join(',');
    const { unit } = block;
    let text = unit.textAs(form);
    if (text === undefined) {
      text = write(this.#rowsOf(block));
      this.#keptBytes += unit.keepText(form, text);
    }
    return text;
  }

  /** A block's groups that are behind the cursor, as rows of a statement, in order. */
  #rowsOf(block: Block): MetricsRow[] {
    const { after } = this.#question;
    const { length } = this.#members;
    const some = ('unit' in block ? this.#groupsIn(block) : block.groups).filter(
      // What was counted and taken out again leaves a cell of nothing.
      (group) => group.total > 0 && (after === undefined || orderOf(group, (_, at) => after[at] ?? '', this.#keys) > 0),
    );
    if (some.length > 1) some.sort((a, b) => orderOf(a, ({ of }) => of(b), this.#keys));
    return some.map((group) =>
      length === 2
        ? [group.first, group.second, group.total, countOf(group)]
        : [group.first, group.total, countOf(group)],
    );
  }

  #groupsIn({ unit, time, ms }: WholeUnit): Group[] {
    const [, second] = this.#members;
    const secondTime = timeOf(second, ms);
    const groups: Groups = new Map<CursorValue, Group>();
    for (const cell of unit.cells) {
      if (cell.users !== undefined) addTo(groups, time, secondTime ?? nameOf(second, cell), cell.total, cell.users);
    }
    return [...groups.values()];
  }
}

function addTo(groups: Groups, first: CursorValue, second: CursorValue, total: number, users: UserSet): void {
  const group = groups.get(second);
  if (group === undefined) {
    groups.set(second, { first, second, total, users, more: undefined });
    return;
  }
  group.total += total;
  if (group.more === undefined) group.more = [users];
  else group.more.push(users);
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

/** The number of the hour or day, 0 where there is no such member; undefined where it is a name that counts. */
function timeOf(dimension: Dimension | undefined, ms: number): number | undefined {
  if (dimension === undefined) return 0;
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
