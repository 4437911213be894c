import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type CursorValue,
  encodeCursor,
  type MetricsQuestion,
  parseMetricsQuestion,
  sortKeys,
} from '../../../../src/shared/metrics/parameters.js';
import { RequestError } from '../../../../src/shared/errors.js';

const NOTHING_ELSE: MetricsQuestion = {
  eventName: 'a',
  from: undefined,
  to: undefined,
  channel: undefined,
  groupBy: [],
  limit: 1000,
  after: undefined,
};

function refusal(query: string): RequestError {
  try {
    parseMetricsQuestion(query);
  } catch (error) {
    assert.ok(error instanceof RequestError, `${query}: ${String(error)}`);
    assert.equal(error.code, 'validation_error');
    assert.equal(error.message, error.details?.[0]?.message);
    return error;
  }
  return assert.fail(`taken: ${query}`);
}

test('what the contract allows is read as it was meant', () => {
  const cases: readonly [string, Partial<MetricsQuestion>][] = [
    ['event_name=a', {}],
    ['event_name=*', { eventName: undefined }],
    ['event_name=%2A', { eventName: undefined }],
    ['event_name=**', { eventName: '**' }],
    ['&&event_name=a&', {}],
    ['event_name=a+b%2Bc', { eventName: 'a b+c' }],
    ['event_name=%61', {}],
    ['%65vent_name=a', {}],
    ['event_name=a=b', { eventName: 'a=b' }],
    ['event_name=%F0%9F%92%A7%00%0A%27%5C', { eventName: "💧\0\n'\\" }],
    ['event_name=çay', { eventName: 'çay' }],
    ['event_name=%EF%BF%BD', { eventName: '\uFFFD' }],
    ['event_name=a&from=0&to=0', { from: 0, to: 0 }],
    ['event_name=a&from=1772024670&to=1772111070', { from: 1772024670, to: 1772111070 }],
    ['event_name=a&to=99999999999', { to: 99999999999 }],
    ['event_name=a&channel=nowhere', { channel: 'nowhere' }],
    ['event_name=a&channel=*', { channel: '*' }],
    ['event_name=a&group_by=hour', { groupBy: ['hour'] }],
    ['event_name=a&group_by=channel,hour', { groupBy: ['channel', 'hour'] }],
    ['event_name=a&group_by=day%2Cevent_name', { groupBy: ['day', 'event_name'] }],
    ['event_name=a&limit=1', { limit: 1 }],
    ['event_name=a&limit=10000', { limit: 10000 }],
  ];
  for (const [query, expected] of cases) {
    assert.deepEqual(parseMetricsQuestion(query), { ...NOTHING_ELSE, ...expected }, query);
  }
});

test('what the contract does not allow is refused with the name of the parameter', () => {
  const cases: readonly [string, string, RegExp][] = [
    ['', '/event_name', /event_name is required/],
    ['from=1', '/event_name', /event_name is required/],
    ['event_name=', '/event_name', /event_name is empty/],
    ['event_name', '/event_name', /event_name is empty/],
    ['event_name=a&event_name=a', '/event_name', /event_name is given twice/],
    ['event_name=%', '/event_name', /percent-encoded/],
    ['event_name=%FF', '/event_name', /percent-encoded/],
    ['event_name=%ED%A0%80', '/event_name', /percent-encoded/],
    ['event_name=\uFFFD', '/event_name', /percent-encoded/],
    ['event_name=a&colour=red', '/colour', /"colour" is not a parameter; there are event_name, from, to/],
    ['event_name=a&Event_Name=a', '/Event_Name', /not a parameter/],
    ['event_name=a&a~b/c=1', '/a~0b~1c', /not a parameter/],
    ['event_name=a&%=1', '/%', /not a parameter/],
    ['event_name=a&__proto__=1', '/__proto__', /not a parameter/],
    ['event_name=a&from=', '/from', /from is empty/],
    ['event_name=a&from=1.0', '/from', /whole Unix seconds/],
    ['event_name=a&from=1e9', '/from', /whole Unix seconds/],
    ['event_name=a&from=-1', '/from', /whole Unix seconds/],
    ['event_name=a&from=%2B1', '/from', /whole Unix seconds/],
    ['event_name=a&from=+1', '/from', /whole Unix seconds/],
    ['event_name=a&from=0x10', '/from', /whole Unix seconds/],
    ['event_name=a&to=2026-02-25', '/to', /whole Unix seconds/],
    ['event_name=a&to=%D9%A1', '/to', /whole Unix seconds/],
    ['event_name=a&to=1772111070000', '/to', /milliseconds/],
    ['event_name=a&to=99999999999999999999', '/to', /whole Unix seconds/],
    ['event_name=a&from=2&to=1', '/from', /from must not be after "to"/],
    ['event_name=a&channel=', '/channel', /channel is empty/],
    ['event_name=a&group_by=minute', '/group_by', /must be one of channel, hour, day, event_name/],
    ['event_name=a&group_by=hour,', '/group_by', /must be one of/],
    ['event_name=a&group_by=hour,hour', '/group_by', /two different ones/],
    ['event_name=a&group_by=hour,day,channel', '/group_by', /two different ones/],
    ['event_name=a&group_by=hour,+channel', '/group_by', /must be one of/],
    ['event_name=a&group_by=hour&group_by=channel', '/group_by', /given twice/],
    ['event_name=a&limit=0', '/limit', /from 1 to 10000/],
    ['event_name=a&limit=10001', '/limit', /from 1 to 10000/],
    ['event_name=a&limit=1.5', '/limit', /from 1 to 10000/],
    ['event_name=a&group_by=hour&cursor=!', '/cursor', /not a next_cursor of this query/],
    ['event_name=a&cursor=abc', '/cursor', /not a next_cursor of this query/],
  ];
  for (const [query, path, message] of cases) {
    const { details } = refusal(query);
    assert.equal(details?.length, 1, query);
    assert.equal(details?.[0]?.path, path, query);
    assert.match(details?.[0]?.message ?? '', message, query);
  }
});

test('every wrong parameter is named, not just the first', () => {
  const { details } = refusal('from=x&to=y&limit=0&what=1');
  assert.deepEqual(details?.map(({ path }) => path).toSorted(), ['/event_name', '/from', '/limit', '/to', '/what']);
});

test('a long unknown name is quoted in part', () => {
  const { message } = refusal(`event_name=a&${'x'.repeat(5000)}=1`);
  assert.ok(message.length < 300, `${message.length}`);
});

test('groups are ordered by time, then size, then name', () => {
  assert.deepEqual(sortKeys(['channel']), ['total', 'channel']);
  assert.deepEqual(sortKeys(['day']), ['day']);
  assert.deepEqual(sortKeys(['channel', 'hour']), ['hour', 'total', 'channel']);
  assert.deepEqual(sortKeys(['event_name', 'channel']), ['total', 'event_name', 'channel']);
  assert.deepEqual(sortKeys(['hour', 'day']), ['hour', 'day']);
  assert.deepEqual(sortKeys([]), []);
});

const dimension = fc.constantFrom('channel' as const, 'hour' as const, 'day' as const, 'event_name' as const);
const questions = fc.record({
  eventName: fc.option(fc.string({ minLength: 1, unit: 'grapheme' }), { nil: undefined }),
  from: fc.option(fc.integer({ min: 0, max: 2e9 }), { nil: undefined }),
  to: fc.option(fc.integer({ min: 2e9, max: 4e9 }), { nil: undefined }),
  channel: fc.option(fc.string({ minLength: 1, unit: 'grapheme' }), { nil: undefined }),
  groupBy: fc.uniqueArray(dimension, { minLength: 1, maxLength: 2 }),
  limit: fc.integer({ min: 1, max: 10_000 }),
});
type Unpaged = Omit<MetricsQuestion, 'after'>;

function queryOf({ eventName, from, to, channel, groupBy, limit }: Unpaged, cursor: string): string {
  const query = new URLSearchParams({ event_name: eventName ?? '*', group_by: groupBy.join(','), cursor });
  if (from !== undefined) query.set('from', `${from}`);
  if (to !== undefined) query.set('to', `${to}`);
  if (channel !== undefined) query.set('channel', channel);
  query.set('limit', `${limit}`);
  return query.toString();
}

function keysFor(question: Unpaged, count: number, name: string): CursorValue[] {
  return sortKeys(question.groupBy).map((key) => (key === 'channel' || key === 'event_name' ? name : count));
}

test('a cursor gives its question back the place it stands for, whatever the page size', () => {
  fc.assert(
    fc.property(
      questions.filter(({ eventName }) => eventName !== '*'),
      fc.maxSafeNat(),
      fc.string({ unit: 'grapheme' }),
      fc.integer({ min: 1, max: 10_000 }),
      (question, count, name, otherLimit) => {
        const keys = keysFor(question, count, name);
        const parsed = parseMetricsQuestion(queryOf({ ...question, limit: otherLimit }, encodeCursor(question, keys)));
        assert.deepEqual(parsed, { ...question, limit: otherLimit, after: keys });
      },
    ),
  );
});

test('a cursor of another question is refused', () => {
  fc.assert(
    fc.property(questions, questions, (one, other) => {
      fc.pre(JSON.stringify({ ...one, limit: 1 }) !== JSON.stringify({ ...other, limit: 1 }));
      fc.pre(one.eventName !== '*' && other.eventName !== '*');
      const cursor = encodeCursor(one, keysFor(one, 1, 'x'));
      assert.throws(() => parseMetricsQuestion(queryOf(other, cursor)), RequestError);
    }),
  );
});

test('a cursor with other kinds of values in it is refused, for it would become part of a query', () => {
  const question: Unpaged = { ...NOTHING_ELSE, groupBy: ['hour', 'channel'] };
  for (const keys of [
    [1, 2],
    [1, 2, 3],
    ['1', 2, 'web'],
    [1, 2.5, 'web'],
    [1, -1, 'web'],
    [1, 2, null],
    [1, 2, 'web', 3],
  ]) {
    const cursor = encodeCursor(question, keys as CursorValue[]);
    assert.throws(() => parseMetricsQuestion(queryOf(question, cursor)), /not a next_cursor/, JSON.stringify(keys));
  }
});

test('no query string makes the parser fail in any other way than a refusal', () => {
  const names = fc.constantFrom('event_name', 'from', 'to', 'channel', 'group_by', 'limit', 'cursor', 'x');
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.base64String(), fc.constantFrom('%', '%E0', '1', 'hour,day'));
  fc.assert(
    fc.property(fc.array(fc.tuple(names, text), { maxLength: 6 }), (pairs) => {
      const query = pairs.map(([name, value]) => `${name}=${value}`).join('&');
      try {
        parseMetricsQuestion(query);
      } catch (error) {
        assert.ok(error instanceof RequestError, String(error));
      }
    }),
  );
});
