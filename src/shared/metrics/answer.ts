import { JsonBytes } from './json-bytes.js';
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
 * groups: their text is put together here, byte by byte, because making an object of each for JSON.stringify takes many times as long. The
 * readable form is test/support/readable-answer.ts, to which this is held.
 */

/** About the length of a group with two members. */
const GROUP_BYTES = 110;
const COMMA = Buffer.from(',');
const BETWEEN_COUNTS = Buffer.from(',"unique_users":');
const END_OF_GROUP = Buffer.from('}');

/**
 * The answer in api.md's order of members, as UTF-8 alone in its memory. `rows` are those of the statement, `asOf` is Unix seconds.
 * Throws where a count is none.
 */
export function metricsAnswer(
  question: MetricsQuestion,
  rows: readonly MetricsRow[],
  asOf: number,
): Uint8Array<ArrayBuffer> {
  const { eventName, from, asked = { from }, to, groupBy, limit } = question;
  const head = JSON.stringify({
    event_name: eventName ?? '*',
    ...(asked.from === undefined || from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(groupBy.length === 0 ? {} : { grouped_by: groupBy.join(',') }),
  }).slice(0, -1);
  // Never later than the truth: cut, not rounded.
  const end = `"as_of":${Math.floor(asOf * 1000) / 1000}}`;
  if (groupBy.length === 0) {
    const [total, users] = rows[0] ?? [];
    const counts = `"total_events":${countOf(total)},"unique_users":${countOf(users)}`;
    // A short Buffer would be in memory that others share.
    return new TextEncoder().encode(`${head},${counts},${end}`);
  }
  const count = Math.min(rows.length, limit);
  const text = new JsonBytes(256 + count * GROUP_BYTES);
  text.add(Buffer.from(`${head},"data":[`));
  const addGroup = groupWriter(groupBy, text);
  for (let i = 0; i < count; i += 1) {
    if (i > 0) text.add(COMMA);
    addGroup(rows[i] ?? []);
  }
  const last = rows[count - 1];
  const cursor =
    last !== undefined && rows.length > limit ? JSON.stringify(encodeCursor(question, keysOf(groupBy, last))) : 'null';
  text.add(Buffer.from(`],"next_cursor":${cursor},${end}`));
  return text.take();
}

/** The form of a group is decided once, and what is around the values of a member is encoded once for each. */
function groupWriter(groupBy: readonly Dimension[], text: JsonBytes): (row: MetricsRow) => void {
  const [first, second] = groupMembers(groupBy);
  if (first === undefined) throw new Error('no group without a dimension');
  const addCounts = (row: MetricsRow, at: number): void => {
    text.addCount(countOf(row[at]));
    text.add(BETWEEN_COUNTS);
    text.addCount(countOf(row[at + 1]));
    text.add(END_OF_GROUP);
  };
  if (second === undefined) {
    const head = labeller(first, '{"group":', ',"total_events":');
    return (row) => {
      text.add(head(row[0]));
      addCounts(row, 1);
    };
  }
  const start = labeller(first, `{"group":{"${first}":`, `,"${second}":`);
  const rest = labeller(second, '', '},"total_events":');
  return (row) => {
    text.add(start(row[0]));
    text.add(rest(row[1]));
    addCounts(row, 2);
  };
}

/** Values as JSON text, with what stands before and behind each. */
function labeller(
  dimension: Dimension,
  before: string,
  behind: string,
): (value: string | number | undefined) => Uint8Array {
  const known = new Map<string | number | undefined, Uint8Array>();
  return (value) => {
    let bytes = known.get(value);
    if (bytes === undefined) {
      const label = isTime(dimension) ? timeLabel(dimension, countOf(value)) : String(value);
      bytes = Buffer.from(`${before}${JSON.stringify(label)}${behind}`);
      known.set(value, bytes);
    }
    return bytes;
  };
}

function keysOf(groupBy: readonly Dimension[], row: MetricsRow): CursorValue[] {
  const members = groupMembers(groupBy);
  return sortKeys(groupBy).map((key) => {
    const value = row[key === 'total' ? members.length : members.indexOf(key)];
    return key === 'channel' || key === 'event_name' ? String(value) : countOf(value);
  });
}

/** `2026-02-25T13:00:00Z`, `2026-02-25`. */
function timeLabel(dimension: TimeDimension, value: number): string {
  const iso = new Date(value * TIME_BUCKET_MS[dimension]).toISOString();
  return dimension === 'hour' ? `${iso.slice(0, 19)}Z` : iso.slice(0, 10);
}

function countOf(value: string | number | undefined): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 0)
    throw new Error(`ClickHouse answered ${String(value)} where a count belongs`);
  return number;
}
