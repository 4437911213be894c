import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClickHouseError } from '@clickhouse/client';
import fc from 'fast-check';
import { backoffMs, classify, type Verdict } from '../../../../src/workers/flusher/retry.js';
import { tries } from '../../../support/property.js';

function clickHouseError(code: string, message = 'a message'): ClickHouseError {
  return new ClickHouseError({ code, type: 'SOME_TYPE', message });
}

/** Every code of the error table that the client was measured with, and what is to be done. */
const CODES: Readonly<Record<Verdict, readonly string[]>> = {
  retry: ['252', '241', '202', '159', '209', '243', '999', '1002', '0', ''],
  misconfigured: ['60', '81', '16', '115', '62', '164', '516', '192', '193', '194', '242', '497'],
  refused: ['41', '469'],
  unreadable: ['33', '131'],
};

test('every known code has its verdict, and an unknown one is tried again', () => {
  for (const [verdict, codes] of Object.entries(CODES)) {
    for (const code of codes) assert.equal(classify(clickHouseError(code)), verdict, code);
  }
});

test('the verdict is the code’s, whatever the message says', () => {
  fc.assert(
    fc.property(fc.string(), (message) => {
      for (const [verdict, codes] of Object.entries(CODES)) {
        assert.equal(classify(clickHouseError(codes[0] ?? '', message)), verdict);
      }
    }),
    tries(50),
  );
});

test('what is no answer of ClickHouse is in doubt, and sent again', () => {
  const doubtful: readonly unknown[] = [
    Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:8123'), { code: 'ECONNREFUSED' }),
    Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }),
    Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }),
    Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' }),
    new Error('Timeout error.'),
    new Error('socket hang up'),
    Object.assign(new Error('not of ClickHouse, though it has its code'), { code: '60' }),
    'a string',
    undefined,
    null,
  ];
  for (const error of doubtful) assert.equal(classify(error), 'retry', String(error));
});

test('waits double from a tenth of a second to a ceiling of seconds, spread by a quarter either way', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (attempt, random) => {
        const middle = Math.min(5000, 100 * 2 ** (attempt - 1));
        const wait = backoffMs(attempt, random);
        assert.ok(wait >= middle * 0.75 && wait <= middle * 1.25, `${wait}`);
      },
    ),
    tries(300),
  );
  assert.deepEqual(
    [1, 2, 3, 6, 7, 8].map((attempt) => backoffMs(attempt, 0.5)),
    [100, 200, 400, 3200, 5000, 5000],
  );
  assert.ok(backoffMs(3, 0) < backoffMs(3, 0.9));
});
