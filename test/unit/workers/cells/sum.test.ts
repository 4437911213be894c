import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { metricsAnswer } from '../../../../src/shared/metrics/answer.js';
import {
  type CursorValue,
  type Dimension,
  groupMembers,
  isTime,
  type MetricsQuestion,
  sortKeys,
} from '../../../../src/shared/metrics/parameters.js';
import type { MetricsRow } from '../../../../src/shared/metrics/statement.js';
import { seriesName, Unit } from '../../../../src/workers/cells/cell.js';
import { type Need, needsOf } from '../../../../src/workers/cells/needs.js';
import { Sum } from '../../../../src/workers/cells/sum.js';
import { tries } from '../../../support/property.js';
import { readableAnswer } from '../../../support/readable-answer.js';

/** Sums out of cells, as answers, held to a count of the events themselves, one by one. */

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

const groupBys = fc.uniqueArray(fc.constantFrom<Dimension>('hour', 'day', 'channel', 'event_name'), { maxLength: 2 });

const question: fc.Arbitrary<MetricsQuestion> = fc
  .record({
    eventName: fc.option(fc.constantFrom(...NAMES), { nil: undefined }),
    channel: fc.option(fc.constantFrom(...CHANNELS), { nil: undefined }),
    groupBy: groupBys,
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

/** Some that differ in what they group by, and ask for the same units. */
const questions: fc.Arbitrary<MetricsQuestion[]> = fc
  .tuple(question, fc.array(groupBys, { minLength: 2, maxLength: 5 }))
  .map(([one, others]) => others.map((groupBy) => ({ ...one, groupBy })));

/** A mirror that has everything: what was asked for once is kept, and added to. */
class Cells {
  readonly #events: Event[] = [];
  readonly #units = new Map<string, { readonly need: Need; readonly bucket: number; readonly unit: Unit }>();

  add(events: readonly Event[]): void {
    this.#events.push(...events);
    for (const { need, bucket, unit } of this.#units.values()) fill(unit, need, bucket, events);
  }

  answer(asked: MetricsQuestion): string {
    const sum = new Sum(asked);
    const lastSecond = Math.max(0, ...this.#events.map(({ second }) => second));
    const units: Unit[] = [];
    for (const need of needsOf(asked, { firstSpan: 3, lastSpan: 4, lastSecond })) {
      for (let bucket = need.first; bucket < need.end; bucket += 1) {
        const unit = this.#unit(need, bucket);
        units.push(unit);
        sum.add(need, bucket, unit);
      }
    }
    const before = bytesOf(units);
    const page = sum.page();
    assert.equal(bytesOf(units) - before, sum.keptBytes);
    return Buffer.from(metricsAnswer(asked, page, 7)).toString();
  }

  #unit(need: Need, bucket: number): Unit {
    const name = `${seriesName(need.key)} ${bucket}`;
    let known = this.#units.get(name);
    if (known === undefined) {
      this.#units.set(name, (known = { need, bucket, unit: new Unit() }));
      fill(known.unit, need, bucket, this.#events);
    }
    return known.unit;
  }
}

function fill(unit: Unit, { key }: Need, bucket: number, events: readonly Event[]): void {
  for (const { second, eventName, channel, user } of events) {
    if (Math.floor(second / (SECONDS_OF[key.level] * key.joined)) !== bucket) continue;
    const name = key.eventName === undefined ? eventName : key.eventName;
    if (name !== '' && name !== eventName) continue;
    const of = key.channels === 'each' ? channel : '';
    if (key.events) unit.addEntries(name, of, [(second % 60) * 2 ** 32 + user]);
    else unit.addUsers(name, of, 1, (users) => users.add(user));
  }
}

function bytesOf(units: readonly Unit[]): number {
  return units.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** The rows of an answer, counted: of all pages. */
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

/** The pages of an answer from the first on, at most so many. */
function pages(answer: (asked: MetricsQuestion) => string, asked: MetricsQuestion, max: number): string[] {
  const all: string[] = [];
  let after: MetricsQuestion['after'];
  do {
    const page = answer({ ...asked, after });
    all.push(page);
    const { next_cursor: cursor } = JSON.parse(page) as { next_cursor?: string | null };
    after =
      typeof cursor === 'string'
        ? (JSON.parse(Buffer.from(cursor, 'base64url').toString()) as CursorValue[]).slice(2)
        : undefined;
  } while (after !== undefined && all.length < max);
  return all;
}

test('an answer out of cells is the count of the events, page by page, and again when events were added', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(event, { maxLength: 40 }), { minLength: 1, maxLength: 3 }),
      questions,
      (rounds, all) => {
        const cells = new Cells();
        const events: Event[] = [];
        for (const some of rounds) {
          cells.add(some);
          events.push(...some);
          for (const asked of all) {
            const rows = counted(events, asked);
            let at = 0;
            const right = pages(
              (page) => {
                const text = JSON.stringify(readableAnswer(page, rows.slice(at, at + page.limit + 1), 7));
                at += page.limit;
                return text;
              },
              asked,
              Infinity,
            );
            assert.deepEqual(
              pages((page) => cells.answer(page), asked, right.length + 1),
              right,
            );
          }
        }
      },
    ),
    tries<[Event[][], MetricsQuestion[]]>(1_000),
  );
});

const ASKED: MetricsQuestion = {
  eventName: 'a',
  channel: undefined,
  groupBy: ['hour', 'channel'],
  from: undefined,
  to: undefined,
  limit: 10,
  after: undefined,
};
const NEED: Need = {
  key: { level: 2, joined: 1, eventName: 'a', channels: 'each', events: false },
  first: 5,
  end: 6,
};

test('a text that a unit keeps is given again until something is added, and counts as its memory', () => {
  const unit = new Unit();
  unit.addUsers('a', 'web', 1, (users) => users.add(1));
  const empty = unit.bytes;
  const ask = (): Sum => {
    const sum = new Sum(ASKED);
    sum.add(NEED, 5, unit);
    sum.page();
    return sum;
  };
  const { keptBytes } = ask();
  assert.ok(keptBytes > 90);
  assert.equal(unit.bytes, empty + keptBytes);
  assert.equal(ask().keptBytes, 0);
  unit.addUsers('a', 'web', 1, (users) => users.add(1));
  assert.equal(unit.bytes, empty);
  assert.equal(ask().keptBytes, keptBytes);
});

test('a cell of which everything was taken out again is no group', () => {
  const unit = new Unit();
  unit.addUsers('a', 'web', 0, () => undefined);
  unit.addUsers('a', 'api', 2, (users) => users.add(1));
  for (const groupBy of [['hour', 'channel'], ['day', 'channel'], ['channel']] as const) {
    const sum = new Sum({ ...ASKED, groupBy });
    sum.add(NEED, 5, unit);
    const { data } = JSON.parse(Buffer.from(metricsAnswer({ ...ASKED, groupBy }, sum.page(), 7)).toString()) as {
      data: unknown[];
    };
    assert.equal(data.length, 1);
  }
});
