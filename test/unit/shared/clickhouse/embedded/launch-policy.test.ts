import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  afterFailedFirstStart,
  classifyFailure,
  DIRECTORY_WAIT_MS,
  type FailureKind,
  restartDelayMs,
  startFailureMessage,
} from '../../../../../src/shared/clickhouse/embedded/launch-policy.js';

test('a failure is told by what the child printed last', () => {
  const cases: readonly [printed: string, kind: FailureKind][] = [
    [
      'Code: 76. DB::Exception: Cannot lock file /d/status. Another server instance in same directory',
      'directory_in_use',
    ],
    ['Code: 210. DB::NetException: Listen [127.0.0.1]:8123 failed: Address already in use', 'port_in_use'],
    ['Code: 1. DB::Exception: SYSTEM START LISTEN query is not supported in clickhouse-local.', 'library_too_old'],
    ['Code: 36. DB::Exception: something', 'other'],
    ['Code: 2100. DB::Exception: something', 'other'],
    ['Code: 761. DB::Exception: something', 'other'],
    ['', 'other'],
  ];
  for (const [printed, kind] of cases) assert.equal(classifyFailure(['ended', printed]), kind, printed);
  assert.equal(classifyFailure([]), 'other');
});

test('the first start waits for the directory within bounds, changes ports a few times, and gives up on all else', () => {
  const early = { elapsedMs: 0, portsTried: 1 };
  const cases: readonly [FailureKind, { elapsedMs: number; portsTried: number }, string][] = [
    ['directory_in_use', early, 'retry'],
    ['directory_in_use', { elapsedMs: DIRECTORY_WAIT_MS, portsTried: 1 }, 'give_up'],
    ['port_in_use', early, 'retry'],
    ['port_in_use', { elapsedMs: 0, portsTried: 5 }, 'give_up'],
    ['library_too_old', early, 'give_up'],
    ['other', early, 'give_up'],
  ];
  for (const [kind, state, step] of cases) assert.equal(afterFailedFirstStart(kind, state).step, step, kind);
  const samePort = afterFailedFirstStart('directory_in_use', early);
  const otherPort = afterFailedFirstStart('port_in_use', early);
  assert.deepEqual(
    [samePort.step === 'retry' && samePort.newPort, otherPort.step === 'retry' && otherPort.newPort],
    [false, true],
  );
});

test('pauses before restarts grow and stay bounded', () => {
  let before = 0;
  for (let failures = 1; failures < 2_000; failures++) {
    const delayMs = restartDelayMs(failures);
    assert.ok(delayMs >= before && delayMs >= 100 && delayMs <= 10_000);
    before = delayMs;
  }
  assert.equal(before, 10_000);
});

test('a start that is given up says what is wrong, what to do, and quotes the server', () => {
  const end = { code: 0, signal: null, tail: ['Code: 36. DB::Exception: bad'] };
  const inUse = startFailureMessage('directory_in_use', end, '/d/data', '4711');
  assert.match(inUse, /another process \(4711\) uses \/d\/data\. .*another PENSTOCK_DATA_DIR/);
  assert.match(startFailureMessage('directory_in_use', end, '/d/data', undefined), /another process uses/);
  assert.match(startFailureMessage('other', end, '/d/data', undefined), /before it was ready .*\n.*Code: 36/);
  assert.match(startFailureMessage('library_too_old', end, '/d/data', undefined), /too old.*26\.7/);
  assert.doesNotMatch(startFailureMessage('other', { ...end, tail: [] }, '/d/data', undefined), /last words/);
});
