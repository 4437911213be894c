import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type CursorValue,
  type Dimension,
  groupMembers,
  isTime,
  type MetricsQuestion,
  sortKeys,
} from '../../../../src/shared/metrics/parameters.js';
import type { MetricsRow } from '../../../../src/shared/metrics/statement.js';
import { needsOf, Sum } from '../../../../src/workers/cells/answer.js';
import { Unit } from '../../../../src/workers/cells/cell.js';
import { tries } from '../../../support/property.js';

/** Sums out of cells, held to a count of the events themselves, one by one. */

interface Event {
  readonly second: number;
  readonly eventName: string;
  readonly channel: string;
  readonly user: number;
}

const DAY = 86_400;
const SPAN = 5 * DAY;
const START = 3 * SPAN;
const SECONDS_OF = { 1: 60, 2: 3_600, 3: DAY, 4: SPAN } as const;

const NAMES = ['a', 'b', 'é'];
const CHANNELS = ['api', 'web'];
const event: fc.Arbitrary<Event> = fc.record({
  // Two hours in the middle of many days, so that cells meet.
  second: fc.oneof(fc.nat(7_200), fc.nat(2 * SPAN - 1)).map((second) => START + second),
  eventName: fc.constantFrom(...NAMES),
  channel: fc.constantFrom(...CHANNELS),
  user: fc.nat(6),
});

const question: fc.Arbitrary<MetricsQuestion> = fc
  .record({
    eventName: fc.option(fc.constantFrom(...NAMES), { nil: undefined }),
    channel: fc.option(fc.constantFrom(...CHANNELS), { nil: undefined }),
    groupBy: fc.uniqueArray(fc.constantFrom<Dimension>('hour', 'day', 'channel', 'event_name'), { maxLength: 2 }),
    range: fc.option(
      fc.tuple(
        fc.oneof(
          fc.nat(2 * SPAN),
          fc.nat(7_200),
          fc.nat(48).map((hour) => hour * 3_600),
        ),
        fc.nat(SPAN),
      ),
      { nil: undefined },
    ),
    limit: fc.integer({ min: 1, max: 12 }),
  })
  .map(({ range, ...rest }) => ({
    ...rest,
    from: range === undefined ? undefined : START + range[0],
    to: range === undefined ? undefined : START + range[0] + range[1],
    after: undefined,
  }));

/** The answer as a mirror that has everything gives it. */
function answered(events: readonly Event[], asked: MetricsQuestion): MetricsRow[] {
  const lastSecond = Math.max(0, ...events.map(({ second }) => second));
  const sum = new Sum(asked);
  for (const need of needsOf(asked, { firstSpan: 3, lastSpan: 4, lastSecond })) {
    const { key } = need;
    for (let bucket = need.first; bucket < need.end; bucket += 1) {
      const unit = new Unit();
      for (const { second, eventName, channel, user } of events) {
        if (Math.floor(second / (SECONDS_OF[key.level] * key.joined)) !== bucket) continue;
        const name = key.eventName === undefined ? eventName : key.eventName;
        if (name !== '' && name !== eventName) continue;
        const of = key.channels === 'each' ? channel : '';
        if (key.events) unit.addEntries(name, of, [(second % 60) * 2 ** 32 + user]);
        else unit.addUsers(name, of, 1, (users) => users.add(user));
      }
      sum.add(need, bucket, unit);
    }
  }
  return sum.rows();
}

/** The same, counted. */
function counted(events: readonly Event[], asked: MetricsQuestion): MetricsRow[] {
  const members = groupMembers(asked.groupBy);
  const valueOf = (member: Dimension, { second, eventName, channel }: Event): CursorValue =>
    isTime(member)
      ? Math.floor(second / (member === 'hour' ? 3_600 : DAY))
      : member === 'channel'
        ? channel
        : eventName;
  const groups = new Map<string, { values: CursorValue[]; total: number; users: Set<number> }>();
  for (const one of events) {
    const { eventName, channel, from = -Infinity, to = Infinity } = asked;
    if (one.second < from || one.second > to) continue;
    if ((eventName ?? one.eventName) !== one.eventName || (channel ?? one.channel) !== one.channel) continue;
    const values = members.map((member) => valueOf(member, one));
    const key = JSON.stringify(values);
    const group = groups.get(key) ?? { values, total: 0, users: new Set() };
    groups.set(key, group);
    group.total += 1;
    group.users.add(one.user);
  }
  // Of everything together there is always a row.
  if (members.length === 0 && groups.size === 0) return [[0, 0]];
  const rows = [...groups.values()].map(({ values, total, users }) => [...values, total, users.size]);
  return rows.toSorted((a, b) => {
    for (const key of sortKeys(asked.groupBy)) {
      const at = key === 'total' ? members.length : members.indexOf(key);
      const [x, y] = [a[at] ?? 0, b[at] ?? 0];
      if (x === y) continue;
      const order =
        typeof x === 'number' && typeof y === 'number'
          ? x - y
          : Buffer.compare(Buffer.from(`${x}`), Buffer.from(`${y}`));
      return key === 'total' ? -order : order;
    }
    return 0;
  });
}

/** The sort key of a row, as a cursor has it. */
function cursorOf(row: MetricsRow, { groupBy }: MetricsQuestion): CursorValue[] {
  const members = groupMembers(groupBy);
  return sortKeys(groupBy).map((key) => row[key === 'total' ? members.length : members.indexOf(key)] ?? '');
}

test('a sum of cells is the count of the events, page by page', () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), question, (events, asked) => {
      const right = counted(events, asked);
      const [whole, { limit }] = [{ ...asked, limit: 10_000 }, asked];
      assert.deepEqual(answered(events, whole), right);
      let after: CursorValue[] | undefined;
      for (let at = 0; at < right.length; at += limit) {
        const page = answered(events, { ...asked, after });
        assert.deepEqual(page, right.slice(at, at + limit + 1));
        if (asked.groupBy.length > 0) after = cursorOf(page[limit - 1] ?? [], asked);
      }
    }),
    tries<[Event[], MetricsQuestion]>(300),
  );
});

test('the ends of a range are few sets of users: joined hours where they are not asked for one by one', () => {
  const bounds = { firstSpan: 0, lastSpan: 10, lastSecond: 11 * SPAN };
  const asked = { eventName: 'a', channel: undefined, limit: 10, after: undefined };
  fc.assert(
    fc.property(fc.nat(20 * DAY), fc.nat(30 * DAY), fc.boolean(), (from, length, byHour) => {
      const groupBy: Dimension[] = byHour ? ['hour', 'channel'] : ['channel'];
      const needs = needsOf({ ...asked, groupBy, from, to: from + length }, bounds);
      const hours = needs.filter(({ key }) => key.level === 2);
      const unitsOf = (joined: number): number =>
        hours.filter(({ key }) => key.joined === joined).reduce((sum, { first, end }) => sum + end - first, 0);
      const inHours = Math.floor((from + length + 1) / 3_600) - Math.ceil(from / 3_600);
      if (byHour) assert.equal(unitsOf(1), Math.max(0, inHours));
      else {
        const units = [12, 6, 3, 1].map(unitsOf);
        assert.ok(
          units.every((count, i) => count <= (i === 3 ? 4 : 2)),
          units.join(' '),
        );
      }
    }),
    tries<[number, number, boolean]>(300),
  );
});
