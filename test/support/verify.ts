import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import type { ClickHouseClient } from '@clickhouse/client';
import { randomFrom } from './metrics-model.js';
import { until } from './service.js';
import { type Count, type Dimension, DIMENSIONS, FATE, groupKey, type Question, type Tally } from './tally.js';

/**
 * Holds the service to an independent count: every total and unique count that GET /metrics gives in many questions, and
 * identity by identity what ClickHouse stores. A difference is shown exactly.
 */

export interface Verification {
  /** Identities that were acknowledged. */
  readonly acknowledged: number;
  /** Identities that ClickHouse has, each once. */
  readonly stored: number;
  /** Acknowledged, and not there. */
  readonly lost: number;
  /** There as more than one event. */
  readonly twice: number;
  /** There, and never sent or not with these fields. */
  readonly strange: number;
  /** Totals and unique counts compared with GET /metrics, and how many of them differ. */
  readonly compared: number;
  readonly wrong: number;
  /** What is wrong, line by line, the first of it; empty where nothing is. */
  readonly report: readonly string[];
}

interface VerifyOptions {
  readonly url: string;
  readonly clickhouse: ClickHouseClient;
  readonly tally: Tally;
  readonly database?: string;
  /** Every combination, and more random questions: for when time does not matter. */
  readonly thorough?: boolean;
  /** Only so many questions, the widest first: for when many comparisons follow each other. */
  readonly questionsMax?: number;
  /** An event name that the tally does not know: neither its rows nor totals over all names are looked at. */
  readonly ignoring?: string;
}

const REPORT_LINES = 40;

/** What a command or another instance stored is found by the roller in the ledger: waits until it has all of it. */
async function untilRolled(clickhouse: ClickHouseClient, database: string): Promise<void> {
  await until(
    async () => {
      const result = await clickhouse.query({
        query: `SELECT 1 FROM ${database}.segments WHERE state = 'completion'
          AND token NOT IN (SELECT token FROM ${database}.rolled_segments) LIMIT 1`,
        format: 'JSONCompactEachRow',
      });
      return (await result.json()).length === 0;
    },
    'every batch is in the rollup',
    240_000,
  );
}

export async function verify(options: VerifyOptions): Promise<Verification> {
  const {
    url,
    clickhouse,
    tally,
    database = 'penstock',
    thorough = false,
    questionsMax = Infinity,
    ignoring,
  } = options;
  const report: string[] = [];
  const note = (line: string): void => {
    if (report.length < REPORT_LINES) report.push(line);
  };
  for (const problem of tally.problems) note(problem);
  if (tally.problemCount > tally.problems.length) note(`… ${tally.problemCount} wrong answers in all`);
  if (tally.unanswered > 0)
    note(`${tally.unanswered} identities were sent and are unanswered: count after all is answered`);
  const stored = await auditRows(clickhouse, database, tally, note, ignoring);
  await untilRolled(clickhouse, database);
  let compared = 0;
  let wrong = 0;
  let asked = 0;
  for (const question of questions(tally, thorough)) {
    if (ignoring !== undefined && question.eventName === undefined) continue;
    asked += 1;
    if (asked > questionsMax) break;
    const differences = differ(tally.count(question), await ask(url, question));
    compared += differences.compared;
    wrong += differences.lines.length;
    for (const line of differences.lines) note(`${describe(question)}: ${line}`);
  }
  return { acknowledged: tally.acknowledged, ...stored, compared, wrong, report };
}

/** Whether nothing is lost, counted twice or otherwise wrong. */
export function isExact({ lost, twice, strange, wrong, report }: Verification): boolean {
  return lost + twice + strange + wrong + report.length === 0;
}

type Note = (line: string) => void;

async function auditRows(
  clickhouse: ClickHouseClient,
  database: string,
  tally: Tally,
  note: Note,
  ignoring = '',
): Promise<Pick<Verification, 'stored' | 'lost' | 'twice' | 'strange'>> {
  const { source } = tally;
  const find = tally.index();
  const seen = new Uint8Array(source.count);
  let twice = 0;
  let strange = 0;
  const { stream } = await clickhouse.exec({
    query:
      `SELECT lower(hex(event_id)), event_name, toUnixTimestamp64Milli(ts), channel, user_id FROM ${database}.events FINAL ` +
      `WHERE event_name != '${ignoring}' FORMAT TabSeparatedRaw`,
  });
  for await (const line of createInterface({ input: Readable.from(stream), crlfDelay: Infinity })) {
    const [id = '', name = '', ts, channel, user] = line.split('\t');
    const at = find(id);
    if (at === -1) {
      strange += 1;
      note(`stored, and never acknowledged: ${line}`);
      continue;
    }
    const count = (seen[at] = (seen[at] ?? 0) + 1);
    if (count === 2) {
      twice += 1;
      note(`stored twice: event ${at}, ${line}`);
    }
    const fields = [
      source.eventNames[source.eventName[at] ?? 0],
      source.timestampMs[at],
      source.channels[source.channel[at] ?? 0],
      source.userId(at),
    ];
    if (fields.join('\t') === [name, ts, channel, user].join('\t')) continue;
    strange += 1;
    note(`stored otherwise than sent: event ${at}, ${line}, sent as ${fields.join(' ')}`);
  }
  let stored = 0;
  let lost = 0;
  for (let i = 0; i < source.count; i += 1) {
    if ((seen[i] ?? 0) > 0) stored += 1;
    else if (tally.fate[i] === FATE.acknowledged) {
      lost += 1;
      note(`acknowledged, and not stored: event ${i}, ${tally.idOf(i)}, ${source.text(i, 'compact')}`);
    }
  }
  return { stored, lost, twice, strange };
}

function* questions(tally: Tally, thorough: boolean): Generator<Question & { readonly limit?: number }> {
  const { eventNames, channels } = tally.source;
  const each = DIMENSIONS.map((dimension) => [dimension]);
  const pairs = DIMENSIONS.flatMap((a) => DIMENSIONS.filter((b) => (thorough ? a !== b : a < b)).map((b) => [a, b]));
  for (const groupBy of [[], ...each, ...pairs]) yield { groupBy };
  for (const [at, eventName] of eventNames.entries()) {
    const groupings = thorough ? each : [each[at % each.length] ?? []];
    for (const groupBy of [[], ...groupings]) yield { eventName, groupBy };
  }
  for (const [at, channel] of channels.entries()) {
    yield { channel, groupBy: [] };
    if (thorough || at === 0) yield { channel, groupBy: ['hour', 'event_name'] };
  }
  const number = randomFrom(tally.source.seed ^ 0x2545f491);
  for (let i = 0; i < (thorough ? 60 : 20); i += 1) yield randomQuestion(tally, number);
}

function randomQuestion({ source }: Tally, random: () => number): Question & { readonly limit?: number } {
  const among = (length: number): number => Math.floor(random() * length);
  const moment = (): number => {
    const seconds = Math.floor((source.timestampMs[among(source.count)] ?? 0) / 1000);
    const unit = [1, 60, 3600, 86_400][among(4)] ?? 1;
    return Math.max(1, Math.floor(seconds / unit) * unit - (random() < 0.3 ? 1 : 0));
  };
  const [a, b] = [moment(), moment()];
  const bounds = random();
  const groupBy: Dimension[] = [];
  while (random() < 0.6 && groupBy.length < 2) {
    const dimension = DIMENSIONS[among(DIMENSIONS.length)] ?? 'hour';
    if (!groupBy.includes(dimension)) groupBy.push(dimension);
  }
  const eventName = source.eventNames[among(source.eventNames.length)];
  const channel = source.channels[among(source.channels.length)];
  return {
    groupBy,
    ...(random() < 0.6 && eventName !== undefined ? { eventName } : {}),
    ...(random() < 0.4 && channel !== undefined ? { channel } : {}),
    ...(bounds < 0.9 ? { from: Math.min(a, b) } : {}),
    ...(bounds > 0.1 ? { to: Math.max(a, b) } : {}),
    // Only among times does a cursor promise to skip and to repeat nothing; here nothing changes, so it must not anyhow.
    ...(groupBy.length > 0 && random() < 0.5 ? { limit: 50 + among(200) } : {}),
  };
}

interface MetricsBody extends RawCount {
  readonly data?: readonly (RawCount & { readonly group: string | Readonly<Partial<Record<Dimension, string>>> })[];
  readonly next_cursor?: string | null;
}

interface RawCount {
  readonly total_events: number;
  readonly unique_users: number;
}

/** All pages of the answer. */
async function ask(
  url: string,
  { eventName, channel, from, to, groupBy, limit = 10_000 }: Question & { readonly limit?: number },
): Promise<Map<string, Count>> {
  const parameters = new URLSearchParams({ event_name: eventName ?? '*' });
  if (channel !== undefined) parameters.set('channel', channel);
  if (from !== undefined) parameters.set('from', String(from));
  if (to !== undefined) parameters.set('to', String(to));
  if (groupBy.length > 0) {
    parameters.set('group_by', groupBy.join(','));
    parameters.set('limit', String(limit));
  }
  const counts = new Map<string, Count>();
  for (;;) {
    const response = await fetch(`${url}/metrics?${parameters.toString()}`);
    const text = await response.text();
    if (response.status !== 200) throw new Error(`GET /metrics?${parameters.toString()}: ${response.status} ${text}`);
    const body = JSON.parse(text) as MetricsBody;
    if (groupBy.length === 0) return counts.set('', { total: body.total_events, users: body.unique_users });
    for (const { group, total_events, unique_users } of body.data ?? []) {
      const [only] = groupBy;
      const key = groupKey(
        groupBy,
        typeof group === 'string' && only !== undefined ? { [only]: group } : (group as object),
      );
      if (counts.has(key)) throw new Error(`GET /metrics?${parameters.toString()}: ${key} came twice`);
      counts.set(key, { total: total_events, users: unique_users });
    }
    if (typeof body.next_cursor !== 'string') return counts;
    parameters.set('cursor', body.next_cursor);
  }
}

function differ(
  expected: ReadonlyMap<string, Count>,
  actual: ReadonlyMap<string, Count>,
): { readonly compared: number; readonly lines: string[] } {
  const lines: string[] = [];
  const keys = new Set([...expected.keys(), ...actual.keys()]);
  for (const key of keys) {
    const want = expected.get(key) ?? { total: 0, users: 0 };
    const got = actual.get(key) ?? { total: 0, users: 0 };
    if (want.total !== got.total) lines.push(`${key} total_events is ${got.total}, ${want.total} were acknowledged`);
    if (want.users !== got.users) lines.push(`${key} unique_users is ${got.users}, ${want.users} were acknowledged`);
  }
  return { compared: 2 * keys.size, lines };
}

function describe({ eventName = '*', channel, from, to, groupBy }: Question): string {
  const range = `${from ?? ''}..${to ?? ''}`;
  return `${eventName}${channel === undefined ? '' : ` via ${channel}`}${range === '..' ? '' : ` ${range}`} by ${groupBy.join(',') || 'nothing'}`;
}
