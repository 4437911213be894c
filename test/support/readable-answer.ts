import {
  encodeCursor,
  groupMembers,
  isTime,
  type MetricsQuestion,
  sortKeys,
} from '../../src/shared/metrics/parameters.js';
import type { MetricsRow } from '../../src/shared/metrics/statement.js';

/** The answer to a metrics question as one would write it down: what `metricsAnswer` is held to. */
export function readableAnswer(question: MetricsQuestion, rows: readonly MetricsRow[], asOf: number): object {
  const { eventName, from, asked = { from }, to, groupBy, limit } = question;
  const members = groupMembers(groupBy);
  const counts = (row: MetricsRow): object => ({
    total_events: Number(row[members.length]),
    unique_users: Number(row[members.length + 1]),
  });
  const labels = (row: MetricsRow): [string, string][] =>
    members.map((dimension, at) => {
      const value = row[at] ?? '';
      if (!isTime(dimension)) return [dimension, String(value)];
      const time = new Date(Number(value) * (dimension === 'hour' ? 3_600_000 : 86_400_000)).toISOString();
      return [dimension, dimension === 'hour' ? time.replace('.000Z', 'Z') : time.slice(0, 10)];
    });
  const head = {
    event_name: eventName ?? '*',
    ...(asked.from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  };
  const as_of = Math.floor(asOf * 1000) / 1000;
  if (members.length === 0) return { ...head, ...counts(rows[0] ?? []), as_of };
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  const keys = sortKeys(groupBy).map((key) => {
    const value = last?.[key === 'total' ? members.length : members.indexOf(key)] ?? '';
    return key === 'total' || isTime(key) ? Number(value) : String(value);
  });
  return {
    ...head,
    grouped_by: groupBy.join(','),
    data: page.map((row) => {
      const group = members.length === 1 ? labels(row)[0]?.[1] : Object.fromEntries(labels(row));
      return { group, ...counts(row) };
    }),
    next_cursor: rows.length > limit ? encodeCursor(question, keys) : null,
    as_of,
  };
}
