import { tableName } from '../clickhouse/client.js';
import { type Dimension, groupMembers, isTime, type MetricsQuestion, sortKeys } from './parameters.js';
import {
  groupColumns,
  type MetricsLimits,
  type MetricsStatement,
  pageOf,
  type Parameters,
  settingsFor,
  TIME_BUCKET_MS,
} from './statement.js';

/**
 * A metrics question as one SELECT over the raw rows. Pure: the route runs it.
 *
 * Invariant: an event counts once, as the version of it that was received last. FINAL does that at every moment, merged or
 * not. Before FINAL has chosen, only conditions on the identity (event_name, ts) may narrow what is read: they stand in WHERE,
 * where ClickHouse uses them on the sorting key and applies the one on the channel after FINAL, because a later version may
 * have another channel. Hence no PREWHERE here.
 * The partition is a function of ts, hence partitions can be read apart.
 *
 * Values reach ClickHouse as bound parameters, never as text of the query.
 */

/** A time is the number of its bucket: integers compare and sort like the times, and no time zone can come in. */
const RAW_EXPRESSIONS: Readonly<Record<Dimension, string>> = {
  hour: `intDiv(toUnixTimestamp64Milli(ts), ${TIME_BUCKET_MS.hour})`,
  day: `intDiv(toUnixTimestamp64Milli(ts), ${TIME_BUCKET_MS.day})`,
  channel: 'channel',
  event_name: 'event_name',
};

export function buildRawStatement(
  database: string,
  question: MetricsQuestion,
  limits: MetricsLimits,
): MetricsStatement {
  const parameters: Parameters = {};
  const conditions = whereConditions(question, parameters);
  const members = groupMembers(question.groupBy);
  const groups = groupColumns(members);
  const columns = members.map((dimension, index) => `${RAW_EXPRESSIONS[dimension]} AS g${index}`);
  const lines = [
    `SELECT ${[...columns, 'count() AS total', 'uniqExact(user_id) AS users'].join(', ')}`,
    `FROM ${tableName(database, 'events')} FINAL`,
  ];
  if (conditions.length > 0) lines.push(`WHERE ${conditions.join(' AND ')}`);
  if (groups.length > 0) {
    const { behindCursor, order } = pageOf(question, parameters);
    lines.push(`GROUP BY ${groups.join(', ')}`);
    if (behindCursor.length > 0) lines.push(`HAVING ${behindCursor.join(' AND ')}`);
    lines.push(...order);
  }
  return { query: lines.join('\n'), parameters, settings: settingsFor(question, limits) };
}

function whereConditions(question: MetricsQuestion, parameters: Parameters): string[] {
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
export function firstMs({ from, groupBy, after }: MetricsQuestion): number | undefined {
  const fromMs = from === undefined ? undefined : from * 1000;
  const [key] = sortKeys(groupBy);
  const reached = after?.[0];
  if (key === undefined || !isTime(key) || typeof reached !== 'number') return fromMs;
  return Math.max(fromMs ?? 0, reached * TIME_BUCKET_MS[key]);
}
