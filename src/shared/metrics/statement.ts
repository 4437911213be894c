import { type ClickHouseSettings, type TupleParam } from '@clickhouse/client';
import { type Dimension, groupMembers, type MetricsQuestion, type SortKey, sortKeys } from './parameters.js';

/** What every statement that answers a metrics question has in common: its form, its paging and its settings. */

export interface MetricsStatement {
  readonly query: string;
  readonly parameters: Readonly<Record<string, Parameter>>;
  readonly settings: ClickHouseSettings;
}

export type Parameter = string | number | readonly TupleParam[];
export type Parameters = Record<string, Parameter>;

export interface MetricsLimits {
  readonly timeoutMs: number;
}

/** One row of a result: the group's values as in `groupMembers`, then total_events, unique_users and what a statement adds. */
export type MetricsRow = readonly (string | number)[];

export const TIME_BUCKET_MS: Readonly<Record<'hour' | 'day', number>> = { hour: 3_600_000, day: 86_400_000 };

/** Of one query in ClickHouse. Every user of every hour and channel, 8.4 M raw events over 30 days, takes 0.8 GB. */
const MEMORY_MAX_BYTES = 2 * 1024 * 1024 * 1024;
/** Groups of one question that a thread may have in hand, whatever the page: some hundreds of bytes each. */
export const GROUPS_MAX = 2_000_000;
/** More do not make a query of FINAL much faster, and take the processors from inserts. */
const THREADS_MAX = 4;

/** `g0`, `g1`: the columns of the groups, in the order of `groupMembers`. */
export function groupColumns(groupBy: readonly Dimension[]): string[] {
  return groupBy.map((_, index) => `g${index}`);
}

/**
 * The condition that leaves out the pages before this one, ORDER BY and LIMIT, over the columns `g0`, `g1` and `total`. The
 * limit is one more than the page, which tells whether there is a next one.
 */
export function pageOf(
  { groupBy, after, limit }: MetricsQuestion,
  parameters: Parameters,
): { readonly behindCursor: string[]; readonly order: string[] } {
  const members = groupMembers(groupBy);
  const keys = sortKeys(groupBy);
  const columnOf = (key: SortKey): string => (key === 'total' ? 'total' : `g${members.indexOf(key)}`);
  for (const [index, value] of (after ?? []).entries()) parameters[`after_${index}`] = value;
  return {
    behindCursor: after === undefined ? [] : [behindCursor(keys, columnOf)],
    order: [
      `ORDER BY ${keys.map((key) => columnOf(key) + (key === 'total' ? ' DESC' : '')).join(', ')}`,
      `LIMIT ${limit + 1}`,
    ],
  };
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
  return `(${alternatives.join(' OR ')})`;
}

export function settingsFor(question: Pick<MetricsQuestion, 'limit'>, limits: MetricsLimits): ClickHouseSettings {
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
    max_rows_to_group_by: String(GROUPS_MAX),
    max_result_rows: String(question.limit + 1),
    // What a user's profile may have set otherwise, and what would make an answer old or partial without a word.
    use_query_cache: 0,
    timeout_overflow_mode: 'throw',
    read_overflow_mode: 'throw',
    group_by_overflow_mode: 'throw',
    sort_overflow_mode: 'throw',
    set_overflow_mode: 'throw',
    join_overflow_mode: 'throw',
    result_overflow_mode: 'throw',
    skip_unavailable_shards: 0,
    empty_result_for_aggregation_by_empty_set: 0,
  };
}
