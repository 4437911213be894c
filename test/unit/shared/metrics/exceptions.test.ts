import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALL_EVENTS, type ExceptionRow, Exceptions } from '../../../../src/shared/metrics/exceptions.js';
import type { CellRead } from '../../../../src/shared/metrics/plan.js';

/** Days 10 to 12. */
const DAYS: CellRead = { level: 3, first: 10, end: 13 };
const NAMES_DAY = 2 ** 32 - 1;

function open(eventName: string, day: number): ExceptionRow {
  return [eventName, day, 1, '0', 1, '7'];
}

function rebuilt(eventName: string, day: number, generation: string): ExceptionRow {
  return [eventName, day, 0, generation, 1, '7'];
}

test('an open day matters to the cells of its event name in a range that touches it, and to no others', () => {
  const cases: readonly [ExceptionRow, string | undefined, CellRead, boolean][] = [
    [open('a', 12), 'a', DAYS, true],
    [open('a', 10), 'a', DAYS, true],
    [open('a', 13), 'a', DAYS, false],
    [open('a', 9), 'a', DAYS, false],
    [open('a', 12), 'b', DAYS, false],
    [open('a', 12), ALL_EVENTS, DAYS, false],
    [open(ALL_EVENTS, 12), ALL_EVENTS, DAYS, true],
    [open(ALL_EVENTS, 12), 'a', DAYS, false],
    [open('a', 12), undefined, DAYS, true],
    [open(ALL_EVENTS, 12), undefined, DAYS, false],
    [open('a', 12), 'a', { level: 2, first: 12 * 24 + 23, end: 12 * 24 + 24 }, true],
    [open('a', 12), 'a', { level: 2, first: 13 * 24, end: 13 * 24 + 1 }, false],
    [open('a', 12), 'a', { level: 1, first: 12 * 1440 + 7, end: 12 * 1440 + 8 }, true],
  ];
  for (const [row, eventName, read, matters] of cases) {
    const found = new Exceptions([row]).regarding([{ eventName, reads: [read] }]);
    assert.deepEqual(found, matters ? undefined : [], JSON.stringify([row, eventName, read]));
  }
});

test('a day that was rebuilt counts in its latest generation, unless it is open again', () => {
  const wanted = [{ eventName: 'a', reads: [DAYS] }];
  const generation = '18446744073709551615';
  assert.deepEqual(new Exceptions([rebuilt('a', 11, generation), rebuilt('a', 20, '1')]).regarding(wanted), [
    { eventName: 'a', day: 11, generation },
  ]);
  assert.deepEqual(new Exceptions([rebuilt('a', 11, '0')]).regarding(wanted), []);
  assert.equal(new Exceptions([['a', 11, 1, '5', 2, '9']]).regarding(wanted), undefined);
});

test('cells of one name in several reads give each of its days once', () => {
  const wanted = [
    { eventName: 'a', reads: [DAYS] },
    { eventName: undefined, reads: [DAYS, { level: 1, first: 11 * 1440, end: 11 * 1440 + 1 }] as CellRead[] },
  ];
  assert.deepEqual(new Exceptions([rebuilt('a', 11, '3'), rebuilt('b', 11, '4')]).regarding(wanted), [
    { eventName: 'a', day: 11, generation: '3' },
    { eventName: 'b', day: 11, generation: '4' },
  ]);
});

test('too many names are a state of their own, not a day', () => {
  const exceptions = new Exceptions([open(ALL_EVENTS, NAMES_DAY)]);
  assert.equal(exceptions.namesMissing, true);
  assert.deepEqual(exceptions.regarding([{ eventName: ALL_EVENTS, reads: [DAYS] }]), []);
  assert.equal(new Exceptions([rebuilt(ALL_EVENTS, NAMES_DAY, '0')]).namesMissing, false);
  assert.equal(new Exceptions([open(ALL_EVENTS, 3)]).namesMissing, false);
});

test('the fingerprint adds hashes up as ClickHouse does, in 64 bits', () => {
  const rows: ExceptionRow[] = [
    ['a', 1, 1, '0', 2, '18446744073709551615'],
    ['b', 2, 1, '0', 3, '18446744073709551610'],
  ];
  assert.equal(new Exceptions(rows).fingerprint, '5 18446744073709551609');
  assert.equal(new Exceptions([]).fingerprint, '0 0');
});
