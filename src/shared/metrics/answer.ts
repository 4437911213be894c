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

/**
 * The rows of a metrics statement as the answer of the contract, in JSON. Pure. An hour and a channel over a month are thousands of
 * groups: their text is put together here, because making an object of each for JSON.stringify takes three times as long. The readable
 * form is test/support/readable-answer.ts, to which this is held.
 */

/** The text of the answer, in api.md's order of members. `rows` are those of the statement, `asOf` is Unix seconds. */
export function metricsAnswerText(question: MetricsQuestion, rows: readonly MetricsRow[], asOf: number): string {
  const { eventName, from, asked = { from }, to, groupBy, limit } = question;
  const head = JSON.stringify({
    event_name: eventName ?? '*',
    ...(asked.from === undefined || from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(groupBy.length === 0 ? {} : { grouped_by: groupBy.join(',') }),
  }).slice(0, -1);
  // Never later than the truth: cut, not rounded.
  const end = `"as_of":${Math.floor(asOf * 1000) / 1000}}`;
  if (groupBy.length === 0) return `${head},${countsText(rows[0] ?? [], 0)},${end}`;
  const textOf = groupWriter(groupBy);
  const count = Math.min(rows.length, limit);
  let data = '';
  let last: MetricsRow | undefined;
  for (let i = 0; i < count; i += 1) {
    last = rows[i] ?? [];
    data += i === 0 ? textOf(last) : `,${textOf(last)}`;
  }
  const cursor =
    last !== undefined && rows.length > limit ? JSON.stringify(encodeCursor(question, keysOf(groupBy, last))) : 'null';
  return `${head},"data":[${data}],"next_cursor":${cursor},${end}`;
}

function countsText(row: MetricsRow, at: number): string {
  return `"total_events":${numberOf(row[at])},"unique_users":${numberOf(row[at + 1])}`;
}

/** The form of a group is decided once, and what it is called is written once. */
function groupWriter(groupBy: readonly Dimension[]): (row: MetricsRow) => string {
  const [first, second] = groupMembers(groupBy);
  if (first === undefined) throw new Error('no group without a dimension');
  const labelOfFirst = labeller(first);
  if (second === undefined) return (row) => `{"group":${labelOfFirst(row[0])},${countsText(row, 1)}}`;
  const labelOfSecond = labeller(second);
  return (row) =>
    `{"group":{"${first}":${labelOfFirst(row[0])},"${second}":${labelOfSecond(row[1])}},${countsText(row, 2)}}`;
}

/** Values as JSON text. */
function labeller(dimension: Dimension): (value: string | number | undefined) => string {
  const known = new Map<string | number | undefined, string>();
  return (value) => {
    let text = known.get(value);
    if (text === undefined) {
      text = JSON.stringify(isTime(dimension) ? timeLabel(dimension, numberOf(value)) : String(value));
      known.set(value, text);
    }
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
