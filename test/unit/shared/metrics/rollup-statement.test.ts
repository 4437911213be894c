import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TupleParam } from '@clickhouse/client';
import fc from 'fast-check';
import { ALL_EVENTS } from '../../../../src/shared/metrics/exceptions.js';
import type { Dimension, MetricsQuestion } from '../../../../src/shared/metrics/parameters.js';
import {
  buildRollupStatement,
  buildVerdictStatement,
  cellsOf,
  planQuestion,
} from '../../../../src/shared/metrics/rollup-statement.js';
import type { MetricsStatement } from '../../../../src/shared/metrics/statement.js';

const LIMITS = { timeoutMs: 1500 };
const DAY_S = 86_400;
/** Two whole days. */
const QUESTION: MetricsQuestion = {
  eventName: 'a',
  from: 100 * DAY_S,
  to: 102 * DAY_S - 1,
  channel: undefined,
  groupBy: [],
  limit: 2,
  after: undefined,
};
/** From the middle of a minute on, hours and minutes before the days. */
const UNALIGNED = { from: 99 * DAY_S + 21 * 3600 + 58 * 60 + 30 } as const;
const REBUILT = [{ eventName: 'a', day: 100, generation: '7' }];

function build(question: Partial<MetricsQuestion>, rebuilt = REBUILT.slice(1), checkName = false): MetricsStatement {
  const asked = { ...QUESTION, ...question };
  return buildRollupStatement('db', asked, { plan: planQuestion(asked, false), rebuilt, checkName }, LIMITS);
}

/** The conditions on the cells of a level. */
function level(number: number, question: Partial<MetricsQuestion>): string | undefined {
  return new RegExp(`\\(level = ${number} AND (.*?_end:UInt32\\}\\))`).exec(build(question).query)?.[1];
}

const DAYS = '(bucket >= {level3_0_first:UInt32} AND bucket < {level3_0_end:UInt32})';
const HOURS = DAYS.replaceAll('level3', 'level2');
const MINUTES = DAYS.replaceAll('level3', 'level1');
const NAMED = 'event_name = {event_name:String}';
const ON_CHANNEL = 'channel = {channel:String}';

test('cells are of the event and channel that are asked for, of each, or of all', () => {
  const star = undefined;
  const groupings = (groupBy: Dimension[]): Partial<MetricsQuestion> => ({ groupBy });
  const cases: readonly [Partial<MetricsQuestion>, string, string][] = [
    [{}, NAMED, "channel = ''"],
    [{ channel: 'web' }, NAMED, ON_CHANNEL],
    [groupings(['channel']), NAMED, "channel != ''"],
    [{ channel: 'web', groupBy: ['channel'] }, NAMED, ON_CHANNEL],
    [groupings(['event_name']), NAMED, "channel = ''"],
    [{ eventName: star }, "event_name = ''", "channel = ''"],
    [{ eventName: star, channel: 'web' }, "event_name = ''", ON_CHANNEL],
    [{ eventName: star, groupBy: ['channel'] }, "event_name = ''", "channel != ''"],
    [{ eventName: star, groupBy: ['event_name'] }, "event_name != ''", "channel = ''"],
    [{ eventName: star, groupBy: ['event_name', 'channel'] }, "event_name != ''", "channel != ''"],
    [{ eventName: star, groupBy: ['day', 'event_name'], channel: 'web' }, "event_name != ''", ON_CHANNEL],
  ];
  for (const [question, name, channel] of cases) {
    assert.equal(level(3, question), `${name} AND ${channel} AND ${DAYS}`, JSON.stringify(question));
    const hourly = { ...question, ...UNALIGNED };
    assert.equal(level(2, hourly), `${name} AND ${channel} AND ${HOURS}`, JSON.stringify(question));
    // Minutes are kept by name and channel only.
    const kept = [name, channel].filter((condition) => condition.includes('{'));
    assert.equal(level(1, hourly), [...kept, MINUTES].join(' AND '), JSON.stringify(question));
  }
});

test('entries are read for ends within a minute only, of the minutes that these lie in', () => {
  assert.doesNotMatch(build({}).query, /entries/);
  const { query, parameters } = build(UNALIGNED);
  assert.match(query, /entries/);
  assert.doesNotMatch(query, /`events`|rollup_users/);
  assert.equal(parameters['end0_from'], UNALIGNED.from);
  assert.equal(parameters['end0_to'], UNALIGNED.from + 30);
  assert.equal(parameters['end0_first'], Math.floor(UNALIGNED.from / 60));
  assert.equal(parameters['end0_end'], Math.floor(UNALIGNED.from / 60) + 1);
});

test('a range without ends reads days only; a page in time order begins with the day or hour that was reached', () => {
  assert.deepEqual(planQuestion({ ...QUESTION, from: undefined, to: undefined }, false).reads, [
    { level: 3, first: 0, end: 1_157_410 },
  ]);
  assert.deepEqual(planQuestion({ ...QUESTION, from: undefined, to: undefined }, true).reads, [
    { level: 4, first: 0, end: 231_482 },
  ]);
  const page = (groupBy: Dimension[], after: number[]): number | undefined =>
    planQuestion({ ...QUESTION, groupBy, after }, false).reads[0]?.first;
  assert.equal(page(['day'], [101]), 101);
  assert.equal(page(['hour'], [101 * 24 + 5]), 101 * 24 + 5);
  assert.equal(page(['hour'], [0]), 100 * 24);
  assert.deepEqual(planQuestion({ ...QUESTION, groupBy: ['day'], after: [102] }, false), { reads: [], ends: [] });
});

test('whole spans of five days are read as such, unless grouped by day', () => {
  const range = { from: 9 * 86_400, to: 26 * 86_400 - 1 };
  assert.deepEqual(planQuestion({ ...QUESTION, ...range, groupBy: [] }, true).reads, [
    { level: 3, first: 9, end: 10 },
    { level: 4, first: 2, end: 5 },
    { level: 3, first: 25, end: 26 },
  ]);
  assert.deepEqual(planQuestion({ ...QUESTION, ...range, groupBy: ['day'] }, true).reads, [
    { level: 3, first: 9, end: 26 },
  ]);
});

test('the exceptions of other cells do not matter: of all events for days and hours, of every name for minutes', () => {
  const cells = (question: Partial<MetricsQuestion>): unknown => {
    const asked = { ...QUESTION, ...UNALIGNED, ...question };
    return cellsOf(asked, planQuestion(asked, false)).map(({ eventName, reads }) => [
      eventName,
      reads.map((read) => read.level),
    ]);
  };
  const days = [2, 3];
  assert.deepEqual(cells({}), [
    ['a', days],
    ['a', [1, 1]],
  ]);
  assert.deepEqual(cells({ eventName: undefined }), [
    [ALL_EVENTS, days],
    [undefined, [1, 1]],
  ]);
  assert.deepEqual(cells({ eventName: undefined, groupBy: ['event_name'] }), [
    [undefined, days],
    [undefined, [1, 1]],
  ]);
});

test('a row of the first generation counts only where its day was not rebuilt', () => {
  assert.match(build({}).query, /AND generation = 0$/m);
  const { query, parameters } = build({}, REBUILT);
  assert.match(query, /generation = 0 AND \(event_name, .*\) NOT IN \{rebuilt_days:/);
  assert.match(query, /\(event_name, .*, generation\) IN \{rebuilt:/);
  assert.deepEqual(parameters['rebuilt_days'], [new TupleParam(['a', 100])]);
  assert.deepEqual(parameters['rebuilt'], [new TupleParam(['a', 100, 7n])]);
});

test('whether a name is rolled is asked only where there are names that are not', () => {
  const asked = /AS exceptions, \(SELECT count\(\) .* event_name = \{event_name:String\} LIMIT 1\)\) AS known/;
  assert.match(build({}, [], true).query, asked);
  assert.match(build({}).query, /AS exceptions, 1 AS known/);
  const verdict = buildVerdictStatement(
    'db',
    QUESTION,
    { plan: planQuestion(QUESTION, false), rebuilt: [], checkName: true },
    LIMITS,
  );
  assert.match(verdict.query, asked);
  assert.deepEqual(verdict.parameters, { event_name: 'a' });
});

test('groups of nothing are left out, before a page is cut', () => {
  const { query } = build({ groupBy: ['day', 'channel'], after: [100, 5, 'web'] });
  assert.match(
    query,
    /WHERE total > 0 AND \(\(g0 > \{after_0:Int64\}\) OR .*\)\nORDER BY g0, total DESC, g1\nLIMIT 3$/,
  );
  assert.doesNotMatch(build({}).query, /total > 0|ORDER|LIMIT/);
});

test('no value that a client sent is in the text of the statement', () => {
  const text = fc.string({ minLength: 1, unit: 'grapheme' });
  const groupBy: Dimension[] = ['day', 'channel'];
  const first = build({ ...UNALIGNED, channel: 'web', groupBy, after: [99, 3, 'web'] }, REBUILT, true);
  fc.assert(
    fc.property(text, text, text, fc.nat({ max: 29 }), fc.nat(), (eventName, channel, name, second, count) => {
      const from = UNALIGNED.from + second;
      const rebuilt = [{ eventName, day: count, generation: `${count}` }];
      const other = build({ eventName, channel, from, groupBy, after: [99, count, name] }, rebuilt, true);
      assert.equal(other.query, first.query);
      assert.equal(other.parameters['event_name'], eventName);
      assert.equal(other.parameters['channel'], channel);
    }),
  );
});
