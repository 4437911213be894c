import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClickHouseError } from '@clickhouse/client';
import { createClickHouse, clickHouseReason, quoteIdentifier } from '../../../../src/shared/clickhouse/client.js';
import { classifyQueryFailure, QueryHangs } from '../../../../src/shared/clickhouse/query-failure.js';

function serverError(code: string, message = 'words'): Error {
  return new ClickHouseError({ message, code, type: 'X' });
}

function systemError(code: string): Error {
  return Object.assign(new Error(`connect ${code}`), { code });
}

test('a failed query means what its code says', () => {
  const cases = [
    [serverError('159'), 'limit'],
    [serverError('241'), 'limit'],
    [serverError('241', '(total) memory limit exceeded: would use 9 GiB'), 'limit'],
    [serverError('241', 'Query memory limit exceeded: would use 2 GiB'), 'memory'],
    [new Error('wrapped', { cause: serverError('241', 'Query memory limit exceeded') }), 'memory'],
    [serverError('158'), 'size'],
    [serverError('202'), 'busy'],
    [serverError('60'), 'misconfigured'],
    [serverError('516'), 'misconfigured'],
    [serverError('394'), 'away'],
    [serverError('62'), 'ours'],
    [systemError('ECONNREFUSED'), 'away'],
    [systemError('ENOTFOUND'), 'away'],
    [systemError('DEPTH_ZERO_SELF_SIGNED_CERT'), 'away'],
    [systemError('ERR_INVALID_ARG_TYPE'), 'ours'],
    [new Error('Timeout error.'), 'away'],
    [new Error('socket hang up'), 'away'],
    [new QueryHangs('no answer'), 'away'],
    [new Error('wrapped', { cause: serverError('159') }), 'limit'],
    [new TypeError('x is not a function'), 'ours'],
    ['a string', 'ours'],
  ] as const;
  for (const [error, expected] of cases) assert.equal(classifyQueryFailure(error), expected, String(error));
});

test('a reason is one line that names the code and its causes', () => {
  assert.equal(clickHouseReason(serverError('60')), 'ClickHouse error 60: words');
  assert.equal(
    clickHouseReason(new Error('could not start', { cause: new Error('first\nsecond') })),
    'could not start: first',
  );
  const refused = new AggregateError([systemError('ECONNREFUSED')]);
  assert.equal(clickHouseReason(refused), 'connect ECONNREFUSED');
  assert.equal(clickHouseReason('x'.repeat(5000)).length, 300);
});

test('a URL that cannot be used is refused without being shown', () => {
  const options = { user: 'u', password: 'p', requestTimeoutMs: 1000, maxOpenConnections: 1 };
  for (const url of ['sec ret', 'ftp://h/secret', 'http://u:secret@h', 'http://h?password=secret', 'http://secret:x']) {
    assert.throws(
      () => createClickHouse({ ...options, url }),
      (error: Error) => !/secret/.test(`${error.message} ${String(error.cause)} ${JSON.stringify(error)}`),
      url,
    );
  }
});

test('an identifier is quoted so that nothing in it ends the quotes', () => {
  assert.equal(quoteIdentifier('a`; DROP'), '`a\\`; DROP`');
  assert.equal(quoteIdentifier('a\\`b'), '`a\\\\\\`b`');
});
