import type { ClickHouseSettings } from '@clickhouse/client';
import { tableName } from './client.js';
import {
  type CursorValue,
  type Dimension,
  encodeCursor,
  groupMembers,
  isTime,
  type MetricsQuestion,
  type SortKey,
  sortKeys,
} from './metrics-parameters.js';

/**
 * A metrics question as one SELECT over the raw rows, and its rows as the answer. Pure: the route runs it.
 *
 * Invariant: an event counts once, as the version of it that was received last. FINAL does that at every moment, merged or
 * not. Before FINAL has chosen, only conditions on the identity (event_name, ts) may narrow what is read: they stand in WHERE,
 * where ClickHouse uses them on the sorting key and applies the one on the channel after FINAL, because a later version may
 * have another channel. Hence no PREWHERE here.
 * The partition is a function of ts, hence partitions can be read apart.
 *
 * Values reach ClickHouse as bound parameters, never as text of the query.
 */

export interface MetricsStatement {
  readonly query: string;
  readonly parameters: Readonly<Record<string, string | number>>;
  readonly settings: ClickHouseSettings;
}

export interface MetricsLimits {
  readonly timeoutMs: number;
}

/** One row of the result: the group's values as in `groupMembers`, then total_events and unique_users. */
export type MetricsRow = readonly (string | number)[];

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

/** Of one query in ClickHouse. Every user of every hour and channel, 8.4 M events over 30 days, takes 0.8 GB. */
const MEMORY_MAX_BYTES = 2 * 1024 * 1024 * 1024;
/** More do not make a query of FINAL much faster, and take the processors from inserts. */
const THREADS_MAX = 4;

const BUCKET_MS: Readonly<Record<'hour' | 'day', number>> = { hour: 3_600_000, day: 86_400_000 };

/** A time is the number of its bucket: integers compare and sort like the times, and no time zone can come in. */
const EXPRESSIONS: Readonly<Record<Dimension, string>> = {
  hour: `intDiv(toUnixTimestamp64Milli(ts), ${BUCKET_MS.hour})`,
  day: `intDiv(toUnixTimestamp64Milli(ts), ${BUCKET_MS.day})`,
  channel: 'channel',
  event_name: 'event_name',
};

export function buildMetricsStatement(
  database: string,
  question: MetricsQuestion,
  limits: MetricsLimits,
): MetricsStatement {
  const parameters: Record<string, string | number> = {};
  const conditions = whereConditions(question, parameters);
  const where = conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`;
  const members = groupMembers(question.groupBy);
  const columns = members.map((dimension, index) => `${EXPRESSIONS[dimension]} AS g${index}`);
  const select = [...columns, 'count() AS total', 'uniqExact(user_id) AS users'].join(', ');
  const groups = members.map((_, index) => `g${index}`).join(', ');
  const paging = members.length === 0 ? [] : [`GROUP BY ${groups}`, ...pageClauses(question, parameters)];
  return {
    query: [`SELECT ${select}`, `FROM ${tableName(database, 'events')} FINAL`, where, ...paging]
      .filter(Boolean)
      .join('\n'),
    parameters,
    settings: settingsFor(question, limits),
  };
}

function whereConditions(question: MetricsQuestion, parameters: Record<string, string | number>): string[] {
  const { eventName, channel, to } = question;
  const conditions: string[] = [];
  if (eventName !== undefined) {
    parameters['event_name'] = eventName;
    conditions.push('event_name = {event_name:String}');
  }
  const fromMs = firstMs(question);
  if (fromMs !== undefined) {
    parameters['from_ms'] = fromMs;
    conditions.push(`ts >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')`);
  }
  if (to !== undefined) {
    // Milliseconds, as stored: the whole of the last second. Beyond 2299 ClickHouse still compares them as integers.
    parameters['to_ms'] = to * 1000 + 999;
    conditions.push(`ts <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')`);
  }
  if (channel !== undefined) {
    parameters['channel'] = channel;
    conditions.push('channel = {channel:String}');
  }
  return conditions;
}

/** Where reading begins: a page in time order need not read the times of the pages before it. */
function firstMs({ from, groupBy, after }: MetricsQuestion): number | undefined {
  const fromMs = from === undefined ? undefined : from * 1000;
  const [key] = sortKeys(groupBy);
  const reached = after?.[0];
  if (key === undefined || !isTime(key) || typeof reached !== 'number') return fromMs;
  return Math.max(fromMs ?? 0, reached * BUCKET_MS[key]);
}

/** HAVING, ORDER BY and LIMIT. The limit is one more than the page, which tells whether there is a next one. */
function pageClauses(question: MetricsQuestion, parameters: Record<string, string | number>): string[] {
  const { groupBy, after, limit } = question;
  const members = groupMembers(groupBy);
  const keys = sortKeys(groupBy);
  const columnOf = (key: SortKey): string => (key === 'total' ? 'total' : `g${members.indexOf(key)}`);
  const clauses: string[] = [];
  if (after !== undefined) {
    for (const [index, value] of after.entries()) parameters[`after_${index}`] = value;
    clauses.push(`HAVING ${behindCursor(keys, columnOf)}`);
  }
  clauses.push(`ORDER BY ${keys.map((key) => columnOf(key) + (key === 'total' ? ' DESC' : '')).join(', ')}`);
  clauses.push(`LIMIT ${limit + 1}`);
  return clauses;
}

/** (a > A) OR (a = A AND b > B) OR …, with the comparison turned round for what is sorted downwards. */
function behindCursor(keys: readonly SortKey[], columnOf: (key: SortKey) => string): string {
  const bound = (index: number): string => {
    const key = keys[index];
    const type = key === 'channel' || key === 'event_name' ? 'String' : 'Int64';
    return `{after_${index}:${type}}`;
  };
  const alternatives = keys.map((key, index) => {
    const equal = keys.slice(0, index).map((before, at) => `${columnOf(before)} = ${bound(at)}`);
    return `(${[...equal, `${columnOf(key)} ${key === 'total' ? '<' : '>'} ${bound(index)}`].join(' AND ')})`;
  });
  return alternatives.join(' OR ');
}

function settingsFor(question: MetricsQuestion, limits: MetricsLimits): ClickHouseSettings {
  return {
    do_not_merge_across_partitions_select_final: 1,
    // An index that an operator has put on another column could hide the version that counts.
    use_skip_indexes_if_final: 0,
    // It remembers which granules a condition did not match, and has no notion of versions of a row.
    use_query_condition_cache: 0,
    output_format_json_quote_64bit_integers: 0,
    // The whole result before the first byte: an error half-way has its HTTP status. A page is at most a few megabytes.
    wait_end_of_query: 1,
    // 2 = reads only, settings may be set; it is what makes ClickHouse heed the client's hanging up.
    readonly: '2',
    cancel_http_readonly_queries_on_client_close: 1,
    max_execution_time: limits.timeoutMs / 1000,
    max_memory_usage: String(MEMORY_MAX_BYTES),
    max_threads: THREADS_MAX,
    max_result_rows: String(question.limit + 1),
    // What a user's profile may have set otherwise, and what would make an answer old or partial without a word.
    use_query_cache: 0,
    timeout_overflow_mode: 'throw',
    read_overflow_mode: 'throw',
    group_by_overflow_mode: 'throw',
    result_overflow_mode: 'throw',
    skip_unavailable_shards: 0,
    empty_result_for_aggregation_by_empty_set: 0,
  };
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
  const iso = new Date(numberOf(value) * BUCKET_MS[dimension]).toISOString();
  return dimension === 'hour' ? `${iso.slice(0, 19)}Z` : iso.slice(0, 10);
}

function numberOf(value: string | number | undefined): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error(`ClickHouse answered ${String(value)} where a count belongs`);
  return number;
}
