/**
 * Who is asked, in the same run on the same machine: Penstock through HTTP, and the plain design through ClickHouse's HTTP. And
 * the truth, from a table that was made of the raw rows by itself.
 */
import { KeptConnection, selectRows } from './kept-connection.js';
import { answerOfMetrics, answerOfRows, metricsPath, nowS } from './questions.js';

/**
 * @typedef {object} System
 * @property {string} name
 * @property {(question: object, atS?: number) => Promise<{ ms: number, read: () => Map<string, number[]>, body?: object }>} ask
 *   ms until the whole answer was here; reading it is not in it
 * @property {() => void | Promise<void>} close
 */

/** Whether a system's answers must be exact: ours, whatever it has for rows. */
export function isPenstock(name) {
  return name.startsWith('penstock');
}

/** @returns {System} */
export function penstock(service) {
  const connection = new KeptConnection();
  return {
    name: 'penstock',
    async ask(question, atS = nowS()) {
      const path = metricsPath(question, question.range(atS));
      const from = performance.now();
      const { status, text } = await connection.exchange(service.url + path);
      const ms = performance.now() - from;
      if (status !== 200) throw new Error(`GET ${path} answered ${status} ${text.slice(0, 300)}`);
      return { ms, text, read: () => answerOfMetrics(question, JSON.parse(text)) };
    },
    close: () => connection.close(),
  };
}

/** @returns {System} the plain design; without FINAL it counts each duplicate that no merge has met yet */
export function plain(clickhouse, { final }) {
  return inClickHouse(clickhouse, final ? 'plain FINAL' : 'plain', `bench.plain${final ? ' FINAL' : ''}`);
}

/** @returns {System} */
export function truth(clickhouse) {
  return inClickHouse(clickhouse, 'truth', 'bench.truth');
}

function inClickHouse(clickhouse, name, table) {
  const connection = new KeptConnection();
  return {
    name,
    async ask(question, atS = nowS()) {
      const query = statement(question, question.range(atS), table, CLICKHOUSE_DIALECT);
      const from = performance.now();
      const rows = await selectRows(connection, clickhouse, query);
      return { ms: performance.now() - from, read: () => answerOfRows(question, rows) };
    },
    close: () => connection.close(),
  };
}

const CLICKHOUSE_DIALECT = {
  group: { hour: 'toStartOfHour(ts)', day: 'toStartOfDay(ts)' },
  seconds: (time) => `toUnixTimestamp(${time})`,
  time: (seconds) => `toDateTime64(${seconds}, 3, 'UTC')`,
};

export const POSTGRES_DIALECT = {
  group: { hour: `date_trunc('hour', ts)`, day: `date_trunc('day', ts)` },
  seconds: (time) => `extract(epoch from ${time})::bigint`,
  time: (seconds) => `to_timestamp(${seconds})`,
};

/** As one would write it by hand. */
export function statement({ name, channel, groupBy }, { from, to }, table, dialect) {
  const conditions = [];
  if (name !== undefined) conditions.push(`event_name = '${name}'`);
  if (from !== undefined) conditions.push(`ts >= ${dialect.time(from)}`);
  if (to !== undefined) conditions.push(`ts < ${dialect.time(to + 1)}`);
  if (channel !== undefined) conditions.push(`channel = '${channel}'`);
  const groups = groupBy.map((dimension) => dialect.group[dimension] ?? dimension);
  const columns = groupBy.map((dimension, i) => (dimension in dialect.group ? dialect.seconds(groups[i]) : groups[i]));
  const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`;
  const grouped = groups.length === 0 ? '' : ` GROUP BY ${groups.join(', ')}`;
  return `SELECT ${[...columns, 'count(*)', 'count(distinct user_id)'].join(', ')} FROM ${table}${where}${grouped}`;
}
