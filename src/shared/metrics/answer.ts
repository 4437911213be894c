import {
  type CursorValue,
  type Dimension,
  encodeCursor,
  groupMembers,
  isTime,
  type MetricsQuestion,
  sortKeys,
  type TimeDimension,
} from './parameters.js';
import { type MetricsRow, TIME_BUCKET_MS } from './statement.js';

/** The rows of a metrics statement as the answer of the contract. Pure. */

interface Group {
  readonly group: string | Readonly<Record<string, string>>;
  readonly total_events: number;
  readonly unique_users: number;
}

export interface MetricsAnswer {
  readonly event_name: string;
  readonly from?: number;
  readonly to?: number;
  readonly grouped_by?: string;
  readonly data?: readonly Group[];
  readonly next_cursor?: string | null;
  readonly total_events?: number;
  readonly unique_users?: number;
  readonly as_of: number;
}

/** The answer in api.md's order of members. `rows` are those of the statement, `asOf` is Unix seconds. */
export function readMetricsAnswer(question: MetricsQuestion, rows: readonly MetricsRow[], asOf: number): MetricsAnswer {
  const { eventName, from, asked = { from }, to, groupBy, limit } = question;
  const head = {
    event_name: eventName ?? '*',
    ...(asked.from === undefined || from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  };
  // Never later than the truth: cut, not rounded.
  const as_of = Math.floor(asOf * 1000) / 1000;
  if (groupBy.length === 0) {
    const [total_events, unique_users] = rows[0] ?? [];
    return { ...head, total_events: numberOf(total_events), unique_users: numberOf(unique_users), as_of };
  }
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return {
    ...head,
    grouped_by: groupBy.join(','),
    data: page.map(groupReader(groupBy)),
    next_cursor: last !== undefined && rows.length > limit ? encodeCursor(question, keysOf(groupBy, last)) : null,
    as_of,
  };
}

/** Rows to groups, thousands at a time: a group's form is decided once, and a time is written once. */
function groupReader(groupBy: readonly Dimension[]): (row: MetricsRow) => Group {
  const members = groupMembers(groupBy);
  const [first, second] = members;
  if (first === undefined) throw new Error('no group without a dimension');
  const labelOfFirst = labeller(first);
  const counts = (row: MetricsRow): Omit<Group, 'group'> => ({
    total_events: numberOf(row[members.length]),
    unique_users: numberOf(row[members.length + 1]),
  });
  if (second === undefined) return (row) => ({ group: labelOfFirst(row[0]), ...counts(row) });
  const labelOfSecond = labeller(second);
  return (row) => ({ group: { [first]: labelOfFirst(row[0]), [second]: labelOfSecond(row[1]) }, ...counts(row) });
}

function labeller(dimension: Dimension): (value: string | number | undefined) => string {
  if (!isTime(dimension)) return String;
  const known = new Map<string | number | undefined, string>();
  return (value) => {
    let text = known.get(value);
    if (text === undefined) known.set(value, (text = timeLabel(dimension, numberOf(value))));
    return text;
  };
}

function keysOf(groupBy: readonly Dimension[], row: MetricsRow): CursorValue[] {
  const members = groupMembers(groupBy);
  return sortKeys(groupBy).map((key) => {
    const value = row[key === 'total' ? members.length : members.indexOf(key)];
    return key === 'channel' || key === 'event_name' ? String(value) : numberOf(value);
  });
}

/** `2026-02-25T13:00:00Z`, `2026-02-25`. */
function timeLabel(dimension: TimeDimension, value: number): string {
  const iso = new Date(value * TIME_BUCKET_MS[dimension]).toISOString();
  return dimension === 'hour' ? `${iso.slice(0, 19)}Z` : iso.slice(0, 10);
}

function numberOf(value: string | number | undefined): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error(`ClickHouse answered ${String(value)} where a count belongs`);
  return number;
}
