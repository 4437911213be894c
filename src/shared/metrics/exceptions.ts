import { tableName } from '../clickhouse/client.js';
import { type CellRead, daysOf } from './plan.js';

/**
 * Days of an event name that `rollup` must not answer for yet (open), and those that were rebuilt, whose cells count in their
 * latest generation only: what the table `rollup_exceptions` said at one moment.
 *
 * Invariant: an exception is written before the commit that makes it necessary, and a rebuilt day is done only after its cells
 * are there. So whoever reads cells first and then finds the exceptions to be those that he went by has read them rightly:
 * that is what the fingerprint is for, which a statement over cells brings back with its rows.
 */

/** Who answers without ClickHouse has looked at the fingerprint no longer ago than this, by a clock that no one sets. */
export const EXCEPTIONS_FRESH_MS = 1_000;

/** As `event_name` in the tables: the cells of all events. */
export const ALL_EVENTS = '';
/** With ALL_EVENTS: there are more event names than are rolled. */
const NAMES_DAY = 4_294_967_295;

/** Cells that are wanted: of one event name (ALL_EVENTS is one), or of every real name. */
export interface CellsOf {
  readonly eventName: string | undefined;
  readonly reads: readonly CellRead[];
}

export interface RebuiltDay {
  readonly eventName: string;
  readonly day: number;
  /** Text: 64 bits. */
  readonly generation: string;
}

/** Event name, day, whether an exception is open, latest generation of those done, how many, sum of their hashes. */
export type ExceptionRow = readonly [string, number, number, string, number, string];

interface ExceptionDay {
  readonly eventName: string;
  readonly day: number;
  readonly open: boolean;
  readonly generation: string;
}

const KEY_HASH = 'cityHash64(event_name, day, request, max(done), max(generation))';

/** All of them; one row for each event name and day. */
export function exceptionsQuery(database: string): string {
  return `SELECT event_name, day, max(finished = 0) AS open, toString(maxIf(rebuilt, finished = 1)) AS generation,
  count() AS requests, toString(sum(hash)) AS hashes
FROM (
  SELECT event_name, day, ${KEY_HASH} AS hash, max(done) AS finished, max(generation) AS rebuilt
  FROM ${tableName(database, 'rollup_exceptions')}
  GROUP BY event_name, day, request
)
GROUP BY event_name, day`;
}

/** The same state in one value, whatever of the table is merged: as `Exceptions.fingerprint` has it. */
export function fingerprintExpression(database: string): string {
  return (
    `(SELECT concat(toString(count()), ' ', toString(sum(hash))) FROM (SELECT ${KEY_HASH} AS hash ` +
    `FROM ${tableName(database, 'rollup_exceptions')} GROUP BY event_name, day, request))`
  );
}

export class Exceptions {
  readonly fingerprint: string;
  /** There are more event names than are rolled: what is missing for a name, or from all of them, may be there. */
  readonly namesMissing: boolean;
  readonly #byName = new Map<string, ExceptionDay[]>();

  constructor(rows: readonly ExceptionRow[]) {
    let requests = 0;
    let hashes = 0n;
    let namesMissing = false;
    for (const [eventName, day, open, generation, count, hash] of rows) {
      requests += count;
      hashes = BigInt.asUintN(64, hashes + BigInt(hash));
      if (eventName === ALL_EVENTS && day === NAMES_DAY) {
        namesMissing ||= open === 1;
        continue;
      }
      const days = this.#byName.get(eventName);
      const entry = { eventName, day, open: open === 1, generation };
      if (days === undefined) this.#byName.set(eventName, [entry]);
      else days.push(entry);
    }
    this.fingerprint = `${requests} ${hashes}`;
    this.namesMissing = namesMissing;
  }

  /** What has to be known of these cells: undefined where one of their days is open, else the days that were rebuilt. */
  regarding(wanted: readonly CellsOf[]): RebuiltDay[] | undefined {
    const rebuilt = new Map<string, RebuiltDay>();
    for (const { eventName, reads } of wanted) {
      const ranges = reads.map(daysOf);
      for (const { open, ...day } of this.#daysOf(eventName)) {
        if (!ranges.some(({ first, last }) => first <= day.day && day.day <= last)) continue;
        if (open) return undefined;
        if (day.generation !== '0') rebuilt.set(`${day.day} ${day.eventName}`, day);
      }
    }
    return [...rebuilt.values()];
  }

  *#daysOf(eventName: string | undefined): Iterable<ExceptionDay> {
    if (eventName !== undefined) {
      yield* this.#byName.get(eventName) ?? [];
      return;
    }
    for (const [name, days] of this.#byName) if (name !== ALL_EVENTS) yield* days;
  }
}
