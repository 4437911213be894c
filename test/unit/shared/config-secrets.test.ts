import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { configWarnings, loadConfig, redactedConfig } from '../../../src/shared/config.js';
import { file, fromEnv, refuses } from '../../support/configuration.js';

const GIB = 1024 ** 3;

describe('API keys', () => {
  const keys = (text: string) => fromEnv({ PENSTOCK_API_KEYS: text }).apiKeys;

  test('without a scope open both, with a rate are limited', () => {
    assert.deepEqual(keys('alpha-key, bravo:write@500,charlie:read,delta:read+write,echo@1'), [
      { key: 'alpha-key', scopes: ['write', 'read'], eventsPerSecond: undefined },
      { key: 'bravo', scopes: ['write'], eventsPerSecond: 500 },
      { key: 'charlie', scopes: ['read'], eventsPerSecond: undefined },
      { key: 'delta', scopes: ['read', 'write'], eventsPerSecond: undefined },
      { key: 'echo', scopes: ['write', 'read'], eventsPerSecond: 1 },
    ]);
  });

  test('that cannot be meant are refused by position, never quoted', () => {
    const secret = 'Sup3rS3cret';
    const bad = [':write', ':admin', ':write+write', ':', '@0', '@', '@x', '@-1', ':write@1@2', ' x', '!', 'é', '=x'];
    for (const tail of bad) {
      const message = refuses({ PENSTOCK_API_KEYS: `first,${tail === ':write' ? tail : secret + tail}` }, /entry 2/);
      assert.ok(!message.includes(secret), message);
    }
    for (const empty of [',', 'a,', ',a', 'a,,b']) refuses({ PENSTOCK_API_KEYS: empty }, /^PENSTOCK_API_KEYS, entry/);
    assert.ok(!refuses({ PENSTOCK_API_KEYS: `${secret},${secret}:read` }, /entry 2.*before/).includes(secret));
  });

  test('in a file are the same text, or an array of texts and objects', () => {
    const expected = keys('alpha:write@5,bravo');
    for (const apiKeys of [
      'alpha:write@5,bravo',
      ['alpha:write@5', 'bravo'],
      [{ key: 'alpha', scopes: ['write'], eventsPerSecond: 5 }, { key: 'bravo' }],
    ]) {
      assert.deepEqual(loadConfig({ config: file({ apiKeys }) }, {}).apiKeys, expected);
    }
    for (const apiKeys of [7, null, [7], [null], [{ key: 1 }], [{ key: 'a', scope: 'read' }], [{ scopes: [] }]]) {
      refuses({}, /"apiKeys" in .*: expected comma-separated/, { config: file({ apiKeys }) });
    }
  });

  test('any key of token characters survives its textual form', () => {
    const key = fc.stringMatching(/^[A-Za-z0-9._~+/-]{1,40}={0,2}$/);
    const scopes = fc.constantFrom('', ':write', ':read', ':write+read', ':read+write');
    const rate = fc.option(fc.integer({ min: 1, max: 1_000_000_000 }), { nil: undefined });
    fc.assert(
      fc.property(key, scopes, rate, (name, scope, eventsPerSecond) => {
        const [entry] = keys(`${name}${scope}${eventsPerSecond === undefined ? '' : `@${eventsPerSecond}`}`);
        assert.equal(entry?.key, name);
        assert.equal(entry.eventsPerSecond, eventsPerSecond);
        const expected = scope === '' ? ['write', 'read'] : scope.slice(1).split('+');
        assert.deepEqual(entry.scopes, expected);
      }),
    );
  });

  test('that are short are warned of', () => {
    assert.deepEqual(configWarnings(fromEnv({})), []);
    assert.deepEqual(configWarnings(fromEnv({ PENSTOCK_API_KEYS: 'x'.repeat(16) })), []);
    const [warning] = configWarnings(fromEnv({ PENSTOCK_API_KEYS: 'short-one' }));
    assert.match(warning ?? '', /^PENSTOCK_API_KEYS: 1 of the keys/);
    assert.ok(!warning?.includes('short-one'));
  });
});

describe('secrets', () => {
  const secrets = {
    PENSTOCK_CLICKHOUSE_PASSWORD: 'hunter22',
    PENSTOCK_API_KEYS: 'Sup3rS3cretKey000:write@7',
  };

  test('are not in what the start logs', () => {
    const logged = redactedConfig(fromEnv(secrets));
    const text = JSON.stringify(logged);
    assert.ok(!text.includes('hunter22') && !text.includes('Sup3r'), text);
    assert.deepEqual(logged['apiKeys'], [{ key: '[redacted]', scopes: ['write'], eventsPerSecond: 7 }]);
    assert.equal(logged['clickhousePassword'], '[redacted]');
    assert.equal(logged['walMaxBytes'], 8 * GIB);
  });
});
