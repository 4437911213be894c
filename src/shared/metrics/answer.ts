import {
  type CursorValue,
  type Dimension,
  encodeCursor,
  groupMembers,
  isTime,
  type MetricsQuestion,
  sortKeys,
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
    data: page.map((row) => readGroup(groupBy, row)),
    next_cursor: last !== undefined && rows.length > limit ? encodeCursor(question, keysOf(groupBy, last)) : null,
    as_of,
  };
}

function readGroup(groupBy: readonly Dimension[], row: MetricsRow): Group {
  const members = groupMembers(groupBy);
  const labels = members.map((dimension, index) => label(dimension, row[index]));
  const [only] = labels;
  return {
    group:
      labels.length === 1 && only !== undefined
        ? only
        : Object.fromEntries(members.map((m, i) => [m, labels[i] ?? ''])),
    total_events: numberOf(row[members.length]),
    unique_users: numberOf(row[members.length + 1]),
  };
}

function keysOf(groupBy: readonly Dimension[], row: MetricsRow): CursorValue[] {
  const members = groupMembers(groupBy);
  return sortKeys(groupBy).map((key) => {
    const value = row[key === 'total' ? members.length : members.indexOf(key)];
    return key === 'channel' || key === 'event_name' ? String(value) : numberOf(value);
  });
}

/** `2026-02-25T13:00:00Z`, `2026-02-25`, or the name itself. */
function label(dimension: Dimension, value: string | number | undefined): string {
  if (!isTime(dimension)) return String(value);
  const iso = new Date(numberOf(value) * TIME_BUCKET_MS[dimension]).toISOString();
  return dimension === 'hour' ? `${iso.slice(0, 19)}Z` : iso.slice(0, 10);
}

function numberOf(value: string | number | undefined): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error(`ClickHouse answered ${String(value)} where a count belongs`);
  return number;
}
