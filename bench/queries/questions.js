/**
 * The questions that are timed, and an answer's form in which all systems can be compared: a map from group to [events, users].
 */
import { DAY_MS } from './rows.js';

/** README's event: the second most frequent, 22 % of all. */
const NAME = 'product_view';
const DAY_S = DAY_MS / 1000;

/**
 * @typedef {object} Question
 * @property {string} label
 * @property {string} [name] all events where it is absent
 * @property {string} [channel]
 * @property {('hour' | 'day' | 'channel' | 'event_name')[]} groupBy time first, as the answer has it
 * @property {(atS: number) => { from?: number, to?: number }} range Unix seconds, both inclusive
 */

/** @returns {Question[]} `live`: those too that end now, which only something that is being written to makes interesting */
export function questions({ startMs, endMs }, { live }) {
  const endS = endMs / 1000;
  const whole = (days) => () => ({ from: endS - days * DAY_S, to: endS - 1 });
  // Neither end on an hour or a minute.
  const unaligned = (days) => () => ({ from: endS - days * DAY_S + 4_321, to: endS - 2_222 });
  const untilNow = (days) => (atS) => ({ from: Math.max(startMs / 1000, atS - days * DAY_S), to: atS });
  const all = undefined;
  const list = [];
  const add = (what, name, span, range, groupBy, channel) =>
    list.push({
      label: `${what}, ${name === all ? 'all events' : 'one event'}, ${span}`,
      name,
      channel,
      range,
      groupBy,
    });
  for (const days of [1, 7, 30]) add('hourly × channel', NAME, `${days} d`, whole(days), ['hour', 'channel']);
  for (const name of [NAME, all])
    for (const days of [7, 30]) add('per channel', name, `${days} d`, whole(days), ['channel']);
  for (const days of [1, 7, 30]) add('daily per event', all, `${days} d`, whole(days), ['day', 'event_name']);
  for (const name of [NAME, all]) add('totals', name, '30 d', whole(30), []);
  for (const name of [NAME, all]) add('totals', name, 'ever', () => ({ to: endS - 1 }), []);
  add('totals of one channel', NAME, '30 d', whole(30), [], 'mobile');
  for (const days of [1, 30])
    add('hourly × channel', NAME, `${days} d unaligned`, unaligned(days), ['hour', 'channel']);
  for (const name of [NAME, all]) add('per channel', name, '7 d unaligned', unaligned(7), ['channel']);
  for (const name of [NAME, all]) add('totals', name, '30 d unaligned', unaligned(30), []);
  if (live) {
    add('hourly × channel', NAME, '1 d until now', untilNow(1), ['hour', 'channel']);
    for (const days of [1, 30]) add('per channel', all, `${days} d until now`, untilNow(days), ['channel']);
    add('totals', all, 'ever, until now', (atS) => ({ to: atS }), []);
  }
  return list;
}

export function nowS() {
  return Math.floor(Date.now() / 1000);
}

const TIME = { hour: 3_600_000, day: DAY_MS };

/** `rows`: the values of the groups, times as Unix seconds, then events and users. */
export function answerOfRows({ groupBy }, rows) {
  const keyOf = (row) =>
    groupBy.map((dimension, i) => (dimension in TIME ? timeText(dimension, row[i]) : row[i])).join('|');
  return new Map(rows.map((row) => [keyOf(row), [Number(row[groupBy.length]), Number(row[groupBy.length + 1])]]));
}

function timeText(dimension, seconds) {
  const text = new Date(Number(seconds) * 1000).toISOString();
  return dimension === 'hour' ? `${text.slice(0, 19)}Z` : text.slice(0, 10);
}

/** The path with which Penstock is asked. All groups are on one page. */
export function metricsPath({ name, channel, groupBy }, { from, to }) {
  const parameters = new URLSearchParams({ event_name: name ?? '*' });
  if (from !== undefined) parameters.set('from', String(from));
  if (to !== undefined) parameters.set('to', String(to));
  if (channel !== undefined) parameters.set('channel', channel);
  if (groupBy.length > 0) {
    parameters.set('group_by', groupBy.join(','));
    parameters.set('limit', '10000');
  }
  return `/metrics?${parameters.toString()}`;
}

/** What `GET /metrics` answered. */
export function answerOfMetrics({ groupBy }, body) {
  if (groupBy.length === 0) return new Map([['', [body.total_events, body.unique_users]]]);
  if (body.next_cursor !== null) throw new Error('the answer has a second page');
  const keyOf = ({ group }) =>
    typeof group === 'string' ? group : groupBy.map((dimension) => group[dimension]).join('|');
  return new Map(body.data.map((each) => [keyOf(each), [each.total_events, each.unique_users]]));
}

/** Groups in which two answers differ, in words; at most three. */
export function differences(answer, truth) {
  const keys = [...new Set([...answer.keys(), ...truth.keys()])];
  const text = (value) => (value === undefined ? 'no such group' : `${value[0]} events, ${value[1]} users`);
  return keys
    .filter((key) => text(answer.get(key)) !== text(truth.get(key)))
    .slice(0, 3)
    .map((key) => `${key || 'total'}: ${text(answer.get(key))} instead of ${text(truth.get(key))}`);
}

/** How many events an answer has beyond the truth, as a share. */
export function excess(answer, truth) {
  const total = (of) => [...of.values()].reduce((sum, [events]) => sum + events, 0);
  const right = total(truth);
  return right === 0 ? 0 : total(answer) / right - 1;
}
