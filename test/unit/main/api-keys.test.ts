import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { HttpRequest } from 'uWebSockets.js';
import { ApiKeys, ApiKeyState } from '../../../src/main/api-keys.js';
import type { ApiKey } from '../../../src/shared/config.js';
import { RequestError } from '../../../src/shared/errors.js';
import { tries } from '../../support/property.js';

const WRITE: ApiKey = { key: 'k-write', scopes: ['write'], eventsPerSecond: undefined };
const READ: ApiKey = { key: 'k-read', scopes: ['read'], eventsPerSecond: undefined };
const BOTH: ApiKey = { key: 'k-both', scopes: ['write', 'read'], eventsPerSecond: 10 };

function request(headers: Readonly<Record<string, string>>): HttpRequest {
  return { getHeader: (name: string) => headers[name] ?? '' } as unknown as HttpRequest;
}

function outcome(keys: ApiKeys, headers: Readonly<Record<string, string>>, scope: 'write' | 'read'): string {
  try {
    return keys.authorize(request(headers), scope)?.scopes.join(',') ?? 'open';
  } catch (error) {
    assert.ok(error instanceof RequestError);
    return error.code;
  }
}

test('where no key is configured everybody may do everything', () => {
  for (const headers of [{}, { authorization: 'Bearer x' }])
    assert.equal(outcome(new ApiKeys([]), headers, 'write'), 'open');
});

test('a key opens its scopes and nothing else, in either header', () => {
  const keys = new ApiKeys([WRITE, READ, BOTH]);
  const cases: readonly (readonly [headers: Readonly<Record<string, string>>, write: string, read: string])[] = [
    [{}, 'unauthorized', 'unauthorized'],
    [{ authorization: 'Bearer k-write' }, 'write', 'forbidden'],
    [{ authorization: 'bearer   k-write' }, 'write', 'forbidden'],
    [{ 'x-api-key': 'k-read' }, 'forbidden', 'read'],
    [{ authorization: 'Bearer k-both' }, 'write,read', 'write,read'],
    [{ authorization: 'Bearer k-other' }, 'unauthorized', 'unauthorized'],
    [{ authorization: 'Bearer k-other', 'x-api-key': 'k-both' }, 'unauthorized', 'unauthorized'],
    [{ authorization: 'Basic a:b', 'x-api-key': 'k-both' }, 'write,read', 'write,read'],
    [{ authorization: 'k-both' }, 'unauthorized', 'unauthorized'],
    [{ authorization: 'Bearer k-both extra' }, 'unauthorized', 'unauthorized'],
    [{ 'x-api-key': 'K-BOTH' }, 'unauthorized', 'unauthorized'],
    [{ 'x-api-key': '__proto__' }, 'unauthorized', 'unauthorized'],
  ];
  for (const [headers, write, read] of cases) {
    assert.deepEqual(
      [outcome(keys, headers, 'write'), outcome(keys, headers, 'read')],
      [write, read],
      JSON.stringify(headers),
    );
  }
});

test('a key without a rate never waits', () => {
  const state = new ApiKeyState(WRITE);
  state.spend(1e9);
  assert.equal(state.waitS(), 0);
});

test('over any time a key takes no more than its rate, but for one second’s worth and one body', (t) => {
  const step = fc.record({ passesMs: fc.nat(2000), body: fc.integer({ min: 1, max: 50 }) });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), fc.array(step, { maxLength: 60 }), (rate, steps) => {
      let nowMs = 1000;
      const clock = t.mock.method(performance, 'now', () => nowMs);
      const state = new ApiKeyState({ ...WRITE, eventsPerSecond: rate });
      let taken = 0;
      for (const { passesMs, body } of steps) {
        nowMs += passesMs;
        const wait = state.waitS();
        assert.ok(wait >= 0);
        if (wait === 0) {
          taken += body;
          state.spend(body);
          assert.ok(taken <= rate * (1 + (nowMs - 1000) / 1000) + 50 + 1e-6);
          continue;
        }
        // Whoever waits as long as told may send.
        nowMs += wait * 1000 + 1e-6;
        assert.ok(state.waitS() < 1e-9);
      }
      clock.mock.restore();
    }),
    tries(100),
  );
});
