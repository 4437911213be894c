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
 * What a question has found as the answer of the contract, in JSON. Pure. An hour and a channel over a month are thousands of groups: their text
 * is put together here, byte by byte, because making an object of each for JSON.stringify takes many times as long. The readable
 * form is test/support/readable-answer.ts, to which this is held.
 */

/** Groups that follow each other in an answer: JSON objects with commas between them, in UTF-8. */
export interface GroupsText {
  readonly count: number;
  readonly bytes: Uint8Array;
  /** The row of the last of them. */
  readonly last: MetricsRow;
}

/** What an answer says: total and users where nothing is grouped, or else a page of groups. */
export type MetricsPage =
  | { readonly counts: MetricsRow }
  | { readonly texts: readonly GroupsText[]; readonly isLast: boolean };

/** So many bytes, whatever is in them. */
type TakeMemory = (bytes: number) => Uint8Array<ArrayBuffer>;

/** About the length of a group with two members. */
const GROUP_BYTES = 110;
const COMMA = Buffer.from(',');
const BETWEEN_COUNTS = Buffer.from(',"unique_users":');
const END_OF_GROUP = Buffer.from('}');

/**
 * The answer in api.md's order of members, as UTF-8 alone in its memory, which `take` gives. `asOf` is Unix seconds.
 * Throws where a count is none.
 */
export function metricsAnswer(
  question: MetricsQuestion,
  page: MetricsPage,
  asOf: number,
  take: TakeMemory = (bytes) => new Uint8Array(bytes),
): Uint8Array<ArrayBuffer> {
  const { eventName, from, asked = { from }, to, groupBy } = question;
  const head = JSON.stringify({
    event_name: eventName ?? '*',
    ...(asked.from === undefined || from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(groupBy.length === 0 ? {} : { grouped_by: groupBy.join(',') }),
  }).slice(0, -1);
  // Never later than the truth: cut, not rounded.
  const end = `"as_of":${Math.floor(asOf * 1000) / 1000}}`;
  if ('counts' in page) {
    const [total, users] = page.counts;
    return joined(take, [
      Buffer.from(`${head},"total_events":${countOf(total)},"unique_users":${countOf(users)},${end}`),
    ]);
  }
  const texts = page.texts.filter(({ count }) => count > 0);
  const last = texts.at(-1)?.last;
  const cursor =
    page.isLast || last === undefined ? 'null' : JSON.stringify(encodeCursor(question, keysOf(groupBy, last)));
  const pieces: Uint8Array[] = [Buffer.from(`${head},"data":[`)];
  for (const [i, { bytes }] of texts.entries()) {
    if (i > 0) pieces.push(COMMA);
    pieces.push(bytes);
  }
  pieces.push(Buffer.from(`],"next_cursor":${cursor},${end}`));
  return joined(take, pieces);
}

/** The rows of a metrics statement, which are one more than a page where there is a next one. Throws where a count is none. */
export function pageOfRows({ groupBy, limit }: MetricsQuestion, rows: readonly MetricsRow[]): MetricsPage {
  if (groupBy.length === 0) return { counts: rows[0] ?? [] };
  return { texts: [groupsWriter(groupBy)(rows.slice(0, limit))], isLast: rows.length <= limit };
}

/** Writes groups. Their form is decided once, and what is around the values of a member is encoded once for each. */
export function groupsWriter(groupBy: readonly Dimension[]): (rows: readonly MetricsRow[]) => GroupsText {
  const text = new JsonBytes(4 * GROUP_BYTES);
  const addGroup = groupAdder(groupBy, text);
  return (rows) => {
    for (const [i, row] of rows.entries()) {
      if (i > 0) text.add(COMMA);
      addGroup(row);
    }
    return { count: rows.length, bytes: text.take(), last: rows.at(-1) ?? [] };
  };
}

function groupAdder(groupBy: readonly Dimension[], text: JsonBytes): (row: MetricsRow) => void {
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

/** Alone in its memory, which short Buffers are not. */
function joined(take: TakeMemory, pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = take(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
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
