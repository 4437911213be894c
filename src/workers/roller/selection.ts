import { quoteText } from '../../shared/clickhouse/binary.js';

/** Part of the events, as the conditions that find its raw rows and its cells of minutes. */
export interface Selection {
  /** Of `events`. */
  readonly rows: string;
  /** Of `rollup`, beside the level. */
  readonly cells: string;
  /** SQL of the entries of a cell that belong to it, and perhaps some of other event names. */
  readonly entries: string;
  has(eventName: string, second: number): boolean;
}

/** Unix seconds [from, to) of one event name, or of all. */
export interface SecondRange {
  readonly eventName: string | undefined;
  readonly from: number;
  readonly to: number;
}

/** A second of an event name. */
export interface NamedSecond {
  readonly eventName: string;
  /** Since 1970. */
  readonly second: number;
}

const SECOND_OF_ENTRY = 'toInt64(bucket) * 60 + toInt64(bitShiftRight(entry, 32))';

export function selectRange({ eventName, from, to }: SecondRange): Selection {
  const name = eventName === undefined ? [] : [`event_name = ${quoteText(eventName)}`];
  const time = (seconds: number): string => `fromUnixTimestamp64Milli(${seconds * 1000}, 'UTC')`;
  const wholeMinutes = from % 60 === 0 && to % 60 === 0;
  return {
    rows: [...name, `ts >= ${time(from)}`, `ts < ${time(to)}`].join(' AND '),
    cells: [...name, `bucket >= ${Math.floor(from / 60)}`, `bucket < ${Math.ceil(to / 60)}`].join(' AND '),
    entries: wholeMinutes
      ? 'entries'
      : `arrayFilter(entry -> ${SECOND_OF_ENTRY} >= ${from} AND ${SECOND_OF_ENTRY} < ${to}, entries)`,
    has: (name_, second) => (eventName === undefined || name_ === eventName) && second >= from && second < to,
  };
}

/**
 * Single seconds, hundreds of them: as sets, which ClickHouse looks up, where it would compare every row with every range. The
 * form of the times is one that its primary index understands.
 */
export function selectSeconds(seconds: readonly NamedSecond[]): Selection {
  const secondsOf = new Map<string, Set<number>>();
  const minutes = new Set<string>();
  for (const { eventName, second } of seconds) {
    const known = secondsOf.get(eventName);
    if (known === undefined) secondsOf.set(eventName, new Set([second]));
    else known.add(second);
    minutes.add(`(${quoteText(eventName)}, ${Math.floor(second / 60)})`);
  }
  const pairs = seconds.map(({ eventName, second }) => `(${quoteText(eventName)}, ${second})`);
  const all = new Set(seconds.map(({ second }) => second));
  return {
    rows: `(event_name, toStartOfSecond(ts)) IN (
      SELECT tupleElement(pair, 1), toDateTime64(tupleElement(pair, 2), 3, 'UTC') FROM (SELECT arrayJoin([${pairs.join(', ')}]) AS pair))`,
    cells: `(event_name, bucket) IN (${[...minutes].join(', ')})`,
    entries: `arrayFilter(entry -> ${SECOND_OF_ENTRY} IN (${[...all].join(', ')}), entries)`,
    has: (eventName, second) => secondsOf.get(eventName)?.has(second) === true,
  };
}
