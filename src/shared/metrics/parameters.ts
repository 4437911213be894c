import { createHash } from 'node:crypto';
import { type ErrorDetail, RequestError } from '../errors.js';

/**
 * What `GET /metrics` is asked, from the text of a query string: pure, and complete in its refusals. Nothing behind this
 * module sees a value that has not been checked, and no parameter is guessed at or ignored.
 *
 * A cursor is the sort key of the last group of a page, with a digest of the question that it belongs to.
 */

export type TimeDimension = 'hour' | 'day';
export type NameDimension = 'channel' | 'event_name';
export type Dimension = TimeDimension | NameDimension;

export interface MetricsQuestion {
  /** Undefined means all (`*`). */
  readonly eventName: string | undefined;
  /** Unix seconds, both inclusive; undefined where not given. */
  readonly from: number | undefined;
  /** Where `from` was moved to what is kept (retention.ts): as it was asked. */
  readonly asked?: { readonly from: number | undefined };
  readonly to: number | undefined;
  readonly channel: string | undefined;
  /** None to two, in the order they were asked for. */
  readonly groupBy: readonly Dimension[];
  readonly limit: number;
  /** Where the page before ended: one value for each of `sortKeys(groupBy)`. */
  readonly after: readonly CursorValue[] | undefined;
}

export type CursorValue = number | string;

/** One step of the order of groups. A time is the number of the hour or day since 1970. */
export type SortKey = TimeDimension | 'total' | NameDimension;

const METRICS_PAGE = { defaultLimit: 1_000, maxLimit: 10_000 } as const;

const DIMENSIONS = ['channel', 'hour', 'day', 'event_name'] as const;
const PARAMETERS = ['event_name', 'from', 'to', 'channel', 'group_by', 'limit', 'cursor'] as const;
type Parameter = (typeof PARAMETERS)[number];

/** From here on a number of seconds is surely one of milliseconds: it would be the year 5138. */
const SECONDS_BELOW = 1e11;
/** A refusal quotes what was sent up to this many characters. */
const QUOTE_MAX_CHARS = 64;
const CURSOR_VERSION = 1;

/** Times first, then the largest group, then by name (api.md); every group has a place of its own in this order. */
export function sortKeys(groupBy: readonly Dimension[]): SortKey[] {
  const times = groupBy.filter(isTime);
  const names = groupBy.filter((dimension) => !isTime(dimension));
  return names.length === 0 ? times : [...times, 'total', ...names];
}

/** The order of a group's members in an answer: times first, otherwise as asked. */
export function groupMembers(groupBy: readonly Dimension[]): Dimension[] {
  return [...groupBy.filter(isTime), ...groupBy.filter((dimension) => !isTime(dimension))];
}

export function isTime(key: SortKey): key is TimeDimension {
  return key === 'hour' || key === 'day';
}

/** Reads the raw query string (without `?`). Throws a `validation_error` that names every parameter that is wrong. */
export function parseMetricsQuestion(rawQuery: string): MetricsQuestion {
  const faults: ErrorDetail[] = [];
  const values = readParameters(rawQuery, faults);
  const eventName = values.get('event_name');
  if (eventName === undefined && !faults.some(({ path }) => path === '/event_name')) {
    fault(faults, 'event_name', 'is required; "*" means all');
  }
  const from = readSeconds(values, 'from', faults);
  const to = readSeconds(values, 'to', faults);
  if (from !== undefined && to !== undefined && from > to) fault(faults, 'from', 'must not be after "to"');
  const groupBy = readGroupBy(values.get('group_by'), faults);
  const limit = readLimit(values.get('limit'), faults);
  const question = {
    eventName: eventName === '*' ? undefined : eventName,
    from,
    to,
    channel: values.get('channel'),
    groupBy,
    limit,
  };
  const cursor = values.get('cursor');
  // The digest in a cursor means nothing while the question itself is wrong.
  const after = cursor === undefined || faults.length > 0 ? undefined : decodeCursor(cursor, question);
  if (cursor !== undefined && faults.length === 0 && after === undefined) {
    fault(faults, 'cursor', 'is not a next_cursor of this query');
  }
  const [first] = faults;
  if (first !== undefined) throw new RequestError('validation_error', first.message, { details: faults });
  return { ...question, after };
}

/** The cursor behind a group with these sort keys. */
export function encodeCursor(question: Omit<MetricsQuestion, 'after'>, keys: readonly CursorValue[]): string {
  return Buffer.from(JSON.stringify([CURSOR_VERSION, digest(question), ...keys])).toString('base64url');
}

function decodeCursor(text: string, question: Omit<MetricsQuestion, 'after'>): CursorValue[] | undefined {
  const keys = sortKeys(question.groupBy);
  if (keys.length === 0 || !/^[\w-]+$/.test(text)) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(text, 'base64url').toString());
  } catch {
    return undefined;
  }
  if (!Array.isArray(parsed)) return undefined;
  const [version, ofQuestion, ...values] = parsed as unknown[];
  if (version !== CURSOR_VERSION || ofQuestion !== digest(question) || values.length !== keys.length) return undefined;
  const checked: CursorValue[] = [];
  for (const [index, key] of keys.entries()) {
    const value = values[index];
    const isName = key === 'channel' || key === 'event_name';
    if (isName ? typeof value !== 'string' : !isCount(value)) return undefined;
    checked.push(value as CursorValue);
  }
  return checked;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Everything but the page size, which may change from page to page. */
function digest({ eventName, from, asked = { from }, to, channel, groupBy }: Omit<MetricsQuestion, 'after'>): string {
  const text = JSON.stringify([eventName ?? null, asked.from ?? null, to ?? null, channel ?? null, groupBy]);
  return createHash('sha256').update(text).digest('base64url').slice(0, 16);
}

function readParameters(rawQuery: string, faults: ErrorDetail[]): Map<Parameter, string> {
  const values = new Map<Parameter, string>();
  const seen = new Set<string>();
  for (const piece of rawQuery.split('&')) {
    if (piece === '') continue;
    const equals = piece.indexOf('=');
    const rawName = equals === -1 ? piece : piece.slice(0, equals);
    const name = decode(rawName);
    if (name === undefined || !isParameter(name)) {
      fault(faults, name ?? rawName, `is not a parameter; there are ${PARAMETERS.join(', ')}`);
      continue;
    }
    const value = equals === -1 ? '' : decode(piece.slice(equals + 1));
    if (seen.has(name)) fault(faults, name, 'is given twice');
    else if (value === undefined) fault(faults, name, 'is not percent-encoded UTF-8');
    else if (value === '') fault(faults, name, 'is empty');
    else values.set(name, value);
    seen.add(name);
  }
  return values;
}

/** As in a form: `+` is a space. Undefined where the escapes are broken or do not make UTF-8. */
function decode(text: string): string | undefined {
  // Bytes outside ASCII that were not percent-encoded have been decoded before us, with U+FFFD for what was not UTF-8.
  if (text.includes('\uFFFD')) return undefined;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

function readSeconds(values: Map<Parameter, string>, name: 'from' | 'to', faults: ErrorDetail[]): number | undefined {
  const text = values.get(name);
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) {
    fault(faults, name, 'must be whole Unix seconds');
    return undefined;
  }
  const seconds = Number(text);
  if (seconds < SECONDS_BELOW) return seconds;
  fault(faults, name, 'must be Unix seconds; this looks like milliseconds');
  return undefined;
}

function readGroupBy(text: string | undefined, faults: ErrorDetail[]): Dimension[] {
  if (text === undefined) return [];
  const names = text.split(',');
  const dimensions = names.filter(isDimension);
  if (dimensions.length === names.length && names.length <= 2 && new Set(names).size === names.length)
    return dimensions;
  fault(faults, 'group_by', `must be one of ${DIMENSIONS.join(', ')}, or two different ones joined by a comma`);
  return [];
}

function readLimit(text: string | undefined, faults: ErrorDetail[]): number {
  if (text === undefined) return METRICS_PAGE.defaultLimit;
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= METRICS_PAGE.maxLimit) return limit;
  fault(faults, 'limit', `must be a whole number from 1 to ${METRICS_PAGE.maxLimit}`);
  return METRICS_PAGE.defaultLimit;
}

function isParameter(name: string): name is Parameter {
  return (PARAMETERS as readonly string[]).includes(name);
}

function isDimension(name: string): name is Dimension {
  return (DIMENSIONS as readonly string[]).includes(name);
}

function fault(faults: ErrorDetail[], name: string, rule: string): void {
  const shown = name.length > QUOTE_MAX_CHARS ? `${name.slice(0, QUOTE_MAX_CHARS)}…` : name;
  faults.push({
    path: `/${shown.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    message: isParameter(name) ? `${name} ${rule}` : `${JSON.stringify(shown)} ${rule}`,
  });
}
