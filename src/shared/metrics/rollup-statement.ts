import { TupleParam } from '@clickhouse/client';
import { tableName } from '../clickhouse/client.js';
import { ALL_EVENTS, type CellsOf, fingerprintExpression, type RebuiltDay } from './exceptions.js';
import { type Dimension, groupMembers, type MetricsQuestion } from './parameters.js';
import { BUCKET_MS, type CellRead, type Level, type Plan, planReads, type TimeRange } from './plan.js';
import { firstMs } from './raw-statement.js';
import {
  groupColumns,
  type MetricsLimits,
  type MetricsStatement,
  pageOf,
  type Parameters,
  settingsFor,
} from './statement.js';

/**
 * A metrics question as one SELECT over the cells of `rollup`; no raw row is read. Pure: the route runs it.
 *
 * Ranges begin and end with a second. Where that is not a minute's border, the events of that minute are counted one by one, out
 * of the `entries` of its cells.
 *
 * Invariant: no event counts twice, and no user in a group, whatever is rolled while the statement runs: of each commit a scan
 * sees all or nothing, and what is read of different scans lies in different minutes. The fingerprint of the exceptions
 * (exceptions.ts) must be read after the cells: ClickHouse takes the snapshot of a table where its analysis first meets it, from
 * left to right and FROM before SELECT. test/integration/metrics-rollups-order.test.ts holds it to that.
 *
 * Values reach ClickHouse as bound parameters, never as text of the query.
 */

/** Beyond all that can be stored or asked for (year 5138), and the end of a span: what ends here ends with a whole bucket. */
const END_OF_TIME_MS = 231_482 * BUCKET_MS[4];

/** `spans`: whether cells of five days may be read; they do not know of rebuilt days. */
export function planQuestion(question: MetricsQuestion, spans: boolean): Plan {
  const { to, groupBy } = question;
  const range = { fromMs: firstMs(question) ?? 0, toMs: to === undefined ? END_OF_TIME_MS : (to + 1) * 1000 };
  if (groupBy.includes('hour')) return planReads(range, 2);
  return planReads(range, spans && !groupBy.includes('day') ? 4 : 3);
}

/** The cells that a plan reads: those of all events together are kept for hours and days only. */
export function cellsOf({ eventName, groupBy }: MetricsQuestion, { reads, ends }: Plan): CellsOf[] {
  return [
    {
      eventName: eventName ?? (groupBy.includes('event_name') ? undefined : ALL_EVENTS),
      reads: reads.filter(({ level }) => level !== 1),
    },
    { eventName, reads: [...reads.filter(({ level }) => level === 1), ...ends.map(minutesOf)] },
  ];
}

export interface RollupReading {
  readonly plan: Plan;
  readonly rebuilt: readonly RebuiltDay[];
  /** Asks beside the counts whether the event name is rolled at all. */
  readonly checkName: boolean;
}

/**
 * The rows have two columns more than those over raw rows: the exceptions' fingerprint, and whether the event name is rolled (1
 * where nobody asked). Ungrouped there is always a row.
 */
export function buildRollupStatement(
  database: string,
  question: MetricsQuestion,
  reading: RollupReading,
  limits: MetricsLimits,
): MetricsStatement {
  const parameters: Parameters = {};
  const groups = groupColumns(groupMembers(question.groupBy));
  const source = new Source(database, question, reading, parameters);
  const lines = [`SELECT ${[...groups, 'total', 'users', ...verdicts(database, question, reading)].join(', ')}`];
  lines.push(`FROM (`, source.counts(), `)`);
  if (groups.length > 0) {
    const { behindCursor, order } = pageOf(question, parameters);
    // What was counted and taken out again leaves a cell of nothing.
    lines.push(`WHERE ${['total > 0', ...behindCursor].join(' AND ')}`, ...order);
  }
  return {
    query: lines.join('\n'),
    parameters,
    settings: {
      ...settingsFor(question, limits),
      // The order of snapshots is that of the analyzer.
      enable_analyzer: 1,
      enable_shared_storage_snapshot_in_query: 1,
      join_use_nulls: 0,
    },
  };
}

/** The two columns alone, for a result that has no row to carry them. */
export function buildVerdictStatement(
  database: string,
  question: MetricsQuestion,
  reading: RollupReading,
  limits: MetricsLimits,
): MetricsStatement {
  return {
    query: `SELECT ${verdicts(database, question, reading).join(', ')}`,
    parameters: reading.checkName ? { event_name: question.eventName ?? '' } : {},
    settings: settingsFor(question, limits),
  };
}

function verdicts(database: string, { eventName }: MetricsQuestion, { checkName }: RollupReading): string[] {
  const known =
    checkName && eventName !== undefined
      ? `(SELECT count() FROM (SELECT 1 FROM ${tableName(database, 'rollup')} ` +
        `WHERE level = 3 AND event_name = {event_name:String} LIMIT 1))`
      : '1';
  return [`${fingerprintExpression(database)} AS exceptions`, `${known} AS known`];
}

/** What is counted: a SELECT of `g0`, `g1`, `total` and `users`. */
class Source {
  readonly #database: string;
  readonly #question: MetricsQuestion;
  readonly #members: readonly Dimension[];
  readonly #reading: RollupReading;
  readonly #parameters: Parameters;

  constructor(database: string, question: MetricsQuestion, reading: RollupReading, parameters: Parameters) {
    this.#database = database;
    this.#question = question;
    this.#members = groupMembers(question.groupBy);
    this.#reading = reading;
    this.#parameters = parameters;
    const { eventName, channel } = question;
    if (eventName !== undefined) parameters['event_name'] = eventName;
    if (channel !== undefined) parameters['channel'] = channel;
    const { rebuilt } = reading;
    if (rebuilt.length === 0) return;
    parameters['rebuilt_days'] = rebuilt.map((of) => new TupleParam([of.eventName, of.day]));
    parameters['rebuilt'] = rebuilt.map((of) => new TupleParam([of.eventName, of.day, BigInt(of.generation)]));
  }

  counts(): string {
    const { reads, ends } = this.#reading.plan;
    const from = [
      ...(reads.length > 0 ? [this.#cells(reads)] : []),
      ...(ends.length > 0 ? [this.#ends(ends)] : []),
    ].join('\nUNION ALL\n');
    const groups = groupColumns(this.#members);
    const by = groups.length === 0 ? '' : `\nGROUP BY ${groups.join(', ')}`;
    return `SELECT ${[...groups, 'sum(events) AS total', 'groupBitmapMerge(bitmap) AS users'].join(', ')}\nFROM (\n${from}\n)${by}`;
  }

  /** One scan for all levels. */
  #cells(reads: readonly CellRead[]): string {
    const columns = this.#members.map((dimension, index) => `${cellExpression(dimension, reads)} AS g${index}`);
    const levels = [...new Set(reads.map(({ level }) => level))].toSorted((a, b) => b - a);
    const conditions = levels.map((level) => this.#level(level, reads));
    return [
      `SELECT ${[...columns, 'total AS events', 'users AS bitmap'].join(', ')}`,
      `FROM ${tableName(this.#database, 'rollup')}`,
      `WHERE (${conditions.join('\n  OR ')})`,
      `  AND ${this.#generations()}`,
    ].join('\n');
  }

  /** In the order of the sorting key, so that it narrows what is read. */
  #level(level: Level, reads: readonly CellRead[]): string {
    const ranges = reads
      .filter((read) => read.level === level)
      .map(({ first, end }, index) => {
        const name = `level${level}_${index}`;
        this.#parameters[`${name}_first`] = first;
        this.#parameters[`${name}_end`] = end;
        return `(bucket >= {${name}_first:UInt32} AND bucket < {${name}_end:UInt32})`;
      });
    const buckets = ranges.length === 1 ? ranges.join('') : `(${ranges.join(' OR ')})`;
    return `(${[...this.#names(level), buckets].join(' AND ')})`;
  }

  /** Which cells of a level: of the asked name and channel, of each, or of all together, which there are none of by minute. */
  #names(level: Level): string[] {
    const { eventName, channel, groupBy } = this.#question;
    const conditions = [`level = ${level}`];
    const kept = (dimension: 'event_name' | 'channel', asked: string | undefined): void => {
      if (asked !== undefined) conditions.push(`${dimension} = {${dimension}:String}`);
      else if (level !== 1) conditions.push(`${dimension} ${groupBy.includes(dimension) ? '!=' : '='} ''`);
    };
    kept('event_name', eventName);
    kept('channel', channel);
    return conditions;
  }

  #generations(): string {
    if (this.#reading.rebuilt.length === 0) return 'generation = 0';
    const day = `multiIf(level = 3, bucket, level = 2, intDiv(bucket, 24), intDiv(bucket, 1440))`;
    return (
      `((generation = 0 AND (event_name, ${day}) NOT IN {rebuilt_days:Array(Tuple(String, UInt32))})\n` +
      `    OR (event_name, ${day}, generation) IN {rebuilt:Array(Tuple(String, UInt32, UInt64))})`
    );
  }

  /** The events of less than a minute at each end. */
  #ends(ends: readonly TimeRange[]): string {
    const reads = ends.map(minutesOf);
    const columns = this.#members.map((dimension, index) => `${cellExpression(dimension, reads)} AS g${index}`);
    const within = ends.map(({ fromMs, toMs }, index) => {
      this.#parameters[`end${index}_from`] = fromMs / 1000;
      this.#parameters[`end${index}_to`] = toMs / 1000;
      return `(at >= {end${index}_from:Int64} AND at < {end${index}_to:Int64})`;
    });
    // Names of the buckets' parameters begin with their level: these are not those of the minutes that are read whole.
    const minutes = reads.map(({ first, end }, index) => {
      this.#parameters[`end${index}_first`] = first;
      this.#parameters[`end${index}_end`] = end;
      return `(bucket >= {end${index}_first:UInt32} AND bucket < {end${index}_end:UInt32})`;
    });
    return [
      `SELECT ${[...columns, 'toInt64(length(kept)) AS events'].join(', ')},`,
      `  bitmapBuild(arrayMap(entry -> toUInt32(bitAnd(entry, 0xffffffff)), kept)) AS bitmap`,
      `FROM (SELECT level, event_name, channel, bucket, arrayFilter((entry, at) -> ${within.join(' OR ')}, entries,`,
      `    arrayMap(entry -> toInt64(bucket) * 60 + toInt64(bitShiftRight(entry, 32)), entries)) AS kept`,
      `  FROM ${tableName(this.#database, 'rollup')}`,
      `  WHERE ${[...this.#names(1), `(${minutes.join(' OR ')})`, this.#generations()].join(' AND ')})`,
      `WHERE notEmpty(kept)`,
    ].join('\n');
  }
}

/** The minutes that less than a minute at an end lies in: one, or two of a range that is as short. */
function minutesOf({ fromMs, toMs }: TimeRange): CellRead {
  return { level: 1, first: Math.floor(fromMs / BUCKET_MS[1]), end: Math.ceil(toMs / BUCKET_MS[1]) };
}

/** The value of a group in a row of `rollup`. */
function cellExpression(dimension: Dimension, reads: readonly CellRead[]): string {
  if (dimension === 'channel' || dimension === 'event_name') return textOf(dimension, dimension);
  const size = BUCKET_MS[dimension === 'hour' ? 2 : 3];
  const levels = [...new Set(reads.map(({ level }) => level))];
  const cases = levels.map((level) => {
    const value = BUCKET_MS[level] === size ? 'bucket' : `intDiv(bucket, ${size / BUCKET_MS[level]})`;
    return { level, value };
  });
  const [first, ...others] = cases;
  const branches = others.map(({ level, value }) => `level = ${level}, ${value}`);
  return `toInt64(${branches.length === 0 ? (first?.value ?? 'bucket') : `multiIf(${[...branches, first?.value].join(', ')})`})`;
}

/** Names are LowCardinality in one table and not in the other. */
function textOf(dimension: Dimension, expression: string): string {
  return dimension === 'channel' || dimension === 'event_name' ? `toString(${expression})` : expression;
}
