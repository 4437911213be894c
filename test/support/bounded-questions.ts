import { outOfBounds, type Promised, type SentEvents } from './sent-events.js';
import { GROUPINGS } from './rollup-answers.js';
import { type Count, type Dimension, groupKey, type Question } from './tally.js';

/** Random questions to GET /metrics, and what in the answers cannot be. */

export interface BoundedQuestion extends Question {
  /** Page size; undefined: all groups on one page. */
  readonly limit?: number;
}

const ALL_GROUPS = 10_000;
const UNITS_S = [1, 60, 3_600, 86_400];
const WALKED_SHARE = 0.15;
const RANGE_MS = 30 * 86_400_000;

/** By the `number`-th grouping of all of them, in turn. */
export function randomQuestion(sent: SentEvents, number: number, random: () => number): BoundedQuestion {
  const below = (count: number): number => Math.floor(random() * count);
  const moment = (): number => {
    const near = sent.at(below(sent.count))?.timestampMs ?? Date.now();
    const ms = random() < 0.5 ? near : Date.now() - random() * RANGE_MS;
    const unit = UNITS_S[below(UNITS_S.length)] ?? 1;
    return Math.floor(ms / 1000 / unit) * unit - (random() < 0.3 ? 1 : 0);
  };
  const [a, b] = [moment(), moment()];
  const { eventNames, channels } = sent.vocabulary;
  const eventName = eventNames[below(eventNames.length)];
  const channel = channels[below(channels.length)];
  const groupBy = GROUPINGS[number % GROUPINGS.length] ?? [];
  return {
    groupBy,
    ...(random() < 0.6 && eventName !== undefined ? { eventName } : {}),
    ...(random() < 0.35 && channel !== undefined ? { channel } : {}),
    ...(random() < 0.75 ? { from: Math.min(a, b) } : {}),
    ...(random() < 0.65 ? { to: Math.max(a, b) } : {}),
    ...(groupBy.length > 0 && random() < WALKED_SHARE ? { limit: 10 + below(150) } : {}),
  };
}

interface Page {
  readonly groups: Map<string, Count>;
  readonly asOfMs: number;
  readonly next: string | undefined;
}

/** The service is away, or cannot answer now. */
export class NotAnswered extends Error {}

/**
 * Puts a question, page by page, and holds the answer to what was sent: while more is being sent where `instance` is given, else
 * exactly. Returns what is wrong, and how far as_of was behind, in ms. Throws NotAnswered.
 */
export async function askWithinBounds(
  url: string,
  question: BoundedQuestion,
  sent: SentEvents,
  instance?: number,
): Promise<{ readonly wrong: string[]; readonly behindMs: number; readonly pages: number }> {
  const promised = (asOfMs: number): Promised | undefined =>
    instance === undefined ? undefined : { instance, asOfMs };
  const wrong: string[] = [];
  const seen = new Map<string, Count>();
  let oldest = Infinity;
  let pages = 0;
  for (let cursor: string | undefined; pages === 0 || cursor !== undefined; pages += 1) {
    const { groups, asOfMs, next } = await ask(url, question, cursor);
    oldest = Math.min(oldest, asOfMs);
    wrong.push(...outOfBounds(groups, sent.bounds(question, promised(asOfMs)), pages === 0 && next === undefined));
    for (const [key, count] of groups) {
      // Groups in order of size change places while they grow.
      if (seen.has(key) && (instance === undefined || isOfTimes(question))) wrong.push(`${key} comes twice`);
      seen.set(key, count);
    }
    cursor = next;
  }
  if (pages > 1 && (instance === undefined || isOfTimes(question))) {
    for (const [key, { least }] of sent.bounds(question, promised(oldest))) {
      if (least.total > 0 && !seen.has(key)) wrong.push(`${key} is on none of the pages`);
    }
  }
  const what = describe(question);
  return { wrong: wrong.map((line) => `${what}: ${line}`), behindMs: Date.now() - oldest, pages };
}

function isOfTimes({ groupBy }: Question): boolean {
  return groupBy.every((dimension) => dimension === 'hour' || dimension === 'day');
}

interface Counted {
  readonly total_events: number;
  readonly unique_users: number;
}

interface Body extends Counted {
  readonly data?: readonly (Counted & { readonly group: string | Readonly<Partial<Record<Dimension, string>>> })[];
  readonly next_cursor?: string | null;
  readonly as_of: number;
}

async function ask(url: string, question: BoundedQuestion, cursor: string | undefined): Promise<Page> {
  const { groupBy } = question;
  const parameters = parametersOf(question, cursor);
  const response = await fetch(`${url}/metrics?${parameters.toString()}`).catch(notAnswered);
  const text = await response.text().catch(notAnswered);
  if (response.status === 503) throw new NotAnswered(text);
  if (response.status !== 200) throw new Error(`GET /metrics?${parameters.toString()}: ${response.status} ${text}`);
  const body = JSON.parse(text) as Body;
  const countOf = ({ total_events, unique_users }: Counted): Count => ({ total: total_events, users: unique_users });
  // What was acknowledged in the millisecond of as_of may be later than it.
  const asOfMs = Math.floor(body.as_of * 1000);
  if (groupBy.length === 0) return { groups: new Map([['', countOf(body)]]), asOfMs, next: undefined };
  const [only] = groupBy;
  const groups = (body.data ?? []).map((counted): [string, Count] => {
    const { group } = counted;
    return [
      groupKey(groupBy, typeof group === 'string' && only !== undefined ? { [only]: group } : (group as object)),
      countOf(counted),
    ];
  });
  const byKey = new Map(groups);
  if (byKey.size !== groups.length) throw new Error(`GET /metrics?${parameters.toString()}: a group comes twice`);
  return { groups: byKey, asOfMs, next: body.next_cursor ?? undefined };
}

function notAnswered(error: unknown): never {
  throw new NotAnswered('no answer', { cause: error });
}

function parametersOf(
  { eventName, channel, from, to, groupBy, limit = ALL_GROUPS }: BoundedQuestion,
  cursor?: string,
): URLSearchParams {
  const parameters = new URLSearchParams({ event_name: eventName ?? '*' });
  if (channel !== undefined) parameters.set('channel', channel);
  if (from !== undefined) parameters.set('from', String(from));
  if (to !== undefined) parameters.set('to', String(to));
  if (groupBy.length > 0) {
    parameters.set('group_by', groupBy.join(','));
    parameters.set('limit', String(limit));
  }
  if (cursor !== undefined) parameters.set('cursor', cursor);
  return parameters;
}

function describe(question: BoundedQuestion): string {
  return decodeURIComponent(parametersOf(question).toString());
}
