/**
 * The end of every run: what was acknowledged must be what the service counts and what ClickHouse holds, to the event. A
 * request that never got an answer may count or not; there are at most as many of those as connections, and mostly none.
 */
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { sum } from './load.js';

const ANSWER_MS = 120_000;
const SETTLE_MS = 300_000;
/** A question that takes too long is split by time, at most this far. */
const SPLITS_MAX = 8;

/**
 * @param {import('./service.js').Running} service
 * @param {{ names: string[], expected: { acknowledged: number, unanswered: number, users: number } }} run
 */
export async function verifyRun(service, { names, expected }) {
  const settledS = await waitUntilSettled(service);
  const counted = [];
  for (const name of names) counted.push(await totalsOf(service.url, name));
  const byService = sum(counted, (answer) => answer.total);
  const users = names.length === 1 ? counted[0].users : null;
  const stored = service.clickhouse === undefined ? null : await storedRows(service.clickhouse, 'events', names);
  const { acknowledged, unanswered } = expected;
  const fits = (total) => total >= acknowledged && total <= acknowledged + unanswered;
  const exact =
    fits(byService) &&
    (users === null || expected.users === null || unanswered > 0 || users === expected.users) &&
    (stored === null || (fits(stored.events) && stored.events === byService));
  return {
    exact,
    acknowledged,
    unanswered,
    countedByService: byService,
    usersExpected: expected.users,
    usersCounted: users,
    inClickHouse: stored?.events ?? null,
    rowsInClickHouse: stored?.rows ?? null,
    settledS,
  };
}

/** Waits until everything that was acknowledged by now is counted; the seconds that it took. */
export async function waitUntilSettled(service) {
  const from = Date.now();
  for (;;) {
    const { status, body } = await get(service.url, '/metrics?event_name=none_of_ours');
    if (status === 200 && body.as_of * 1000 >= from) return (Date.now() - from) / 1000;
    if (Date.now() - from > SETTLE_MS) {
      throw new Error(
        `as_of did not pass the end of the run in ${SETTLE_MS / 1000} s: ${status} ${JSON.stringify(body)}`,
      );
    }
    await sleep(50);
  }
}

/** Totals add up over spans of time, so a question that the service has no time for is asked by halves; users do not. */
async function totalsOf(url, name, span, splits = 0) {
  const range = span === undefined ? '' : `&from=${span.from}&to=${span.to}`;
  const { status, body } = await get(url, `/metrics?event_name=${encodeURIComponent(name)}${range}`);
  if (status === 200) return { total: body.total_events, users: body.unique_users };
  if (status < 500 || splits === SPLITS_MAX) throw new Error(`GET /metrics answered ${status} ${JSON.stringify(body)}`);
  const now = Math.floor(Date.now() / 1000);
  const { from, to } = span ?? { from: now - 7_200, to: now };
  const middle = Math.floor((from + to) / 2);
  const first = await totalsOf(url, name, { from, to: middle }, splits + 1);
  const second = await totalsOf(url, name, { from: middle + 1, to }, splits + 1);
  return { total: first.total + second.total, users: null };
}

async function get(url, path) {
  const { status, text } = await exchange(url + path, { method: 'GET' });
  return { status, body: text.startsWith('{') ? JSON.parse(text) : text };
}

/** What is counted exactly at once: some 64 bytes of ClickHouse's memory each. */
const DISTINCT_AT_ONCE = 20_000_000;

/** Rows of a table with these names, and how many of them are different events, by their ids: share by share where they are many. */
export async function storedRows(clickhouse, table, names) {
  const list = names.map((name) => `'${name}'`).join(',');
  const from = `FROM ${clickhouse.database}.${table} WHERE event_name IN (${list})`;
  const [{ rows }] = await askClickHouse(clickhouse, `SELECT count() AS rows ${from} FORMAT JSONEachRow`);
  const shares = Math.max(1, Math.ceil(Number(rows) / DISTINCT_AT_ONCE));
  let events = 0;
  for (let share = 0; share < shares; share += 1) {
    const query = `SELECT uniqExact(event_name, ts, event_id) AS events ${from} AND cityHash64(event_id) % ${shares} = ${share} FORMAT JSONEachRow`;
    const [row] = await askClickHouse(clickhouse, query);
    events += Number(row.events);
  }
  return { rows: Number(rows), events };
}

/**
 * @param {(text: string) => any} [read] of an answer in another form than JSONEachRow
 * @returns {Promise<object[]>}
 */
export async function askClickHouse({ url, user, password }, query, read = readLines) {
  const headers = { 'X-ClickHouse-User': user, 'X-ClickHouse-Key': password };
  const { status, text } = await exchange(url, { method: 'POST', headers }, query);
  if (status !== 200) throw new Error(`ClickHouse answered ${status}: ${text.slice(0, 500)}`);
  return read(text);
}

function readLines(text) {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/** On a connection of its own: one that is kept open would hold up the end of the embedded ClickHouse for seconds. */
async function exchange(url, options, body = '') {
  const request = http.request(url, { ...options, agent: false, signal: AbortSignal.timeout(ANSWER_MS) }).end(body);
  const [response] = await once(request, 'response');
  let text = '';
  for await (const part of response.setEncoding('utf8')) text += part;
  return { status: response.statusCode, text };
}
