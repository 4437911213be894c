import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  ConfigError,
  type Environment,
  environmentName,
  flagName,
  isInjectedByKubernetes,
  loadConfig,
  optionTable,
} from '../../../src/shared/config.js';
import { file, fromEnv, refuses } from '../../support/configuration.js';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

describe('defaults', () => {
  test('are those of the contract', () => {
    assert.deepEqual(fromEnv({}), {
      host: '127.0.0.1',
      port: 8080,
      adminHost: '127.0.0.1',
      adminPort: 9464,
      dataDir: path.resolve('data'),
      flushIntervalMs: 1000,
      commitDelayUs: 100,
      walMaxBytes: 8 * GIB,
      walKeepMs: 0,
      retentionDays: undefined,
      deadLetterMaxBytes: GIB,
      clickhouseUrl: undefined,
      clickhouseUser: 'default',
      clickhousePassword: undefined,
      clickhouseDatabase: 'penstock',
      clickhouseTimeoutMs: 30_000,
      apiKeys: [],
      channels: ['web', 'mobile', 'api', 'email', 'push'],
      futureToleranceS: 60,
      bodyMaxBytes: 16 * MIB,
      bulkMaxEvents: 10_000,
      inFlightMaxBytes: 128 * MIB,
      inFlightMaxRequests: 16_384,
      metricsTimeoutMs: 10_000,
      metricsMemoryBytes: 134_217_728,
      metricsConcurrency: 4,
      encoderThreads: Math.min(4, availableParallelism()),
      drainDelayMs: 0,
      drainTimeoutMs: 8000,
      readyRequiresClickhouse: false,
      logLevel: 'info',
    });
  });
});

describe('names', () => {
  test('flag and variable of one option are spelled alike', () => {
    assert.equal(flagName('clickhouseUrl'), '--clickhouse-url');
    assert.equal(environmentName('clickhouseUrl'), 'PENSTOCK_CLICKHOUSE_URL');
    assert.equal(environmentName('futureToleranceS'), 'PENSTOCK_FUTURE_TOLERANCE_S');
  });

  test('an unknown variable is refused by name, with the nearest one', () => {
    refuses({ PENSTOCK_WAL_MAX_BYTE: '1' }, /PENSTOCK_WAL_MAX_BYTE; did you mean PENSTOCK_WAL_MAX_BYTES\?$/);
    refuses({ PENSTOCK_CLICKHOSUE_URL: 'x' }, /did you mean PENSTOCK_CLICKHOUSE_URL\?$/);
    const message = refuses({ PENSTOCK_ZZZZZZZZZZZZZZZZZZZZ: '1' }, /PENSTOCK_ZZZZZZZZZZZZZZZZZZZZ/);
    assert.ok(!message.includes('did you mean'));
  });

  test('an unknown variable is refused even when it is empty', () => {
    refuses({ PENSTOCK_PROT: '' }, /PENSTOCK_PROT/);
  });

  test('variables of other programs are none of our business', () => {
    assert.equal(fromEnv({ PENSTOCKS: '1', HOST: 'elsewhere', NODE_ENV: 'production' }).host, '127.0.0.1');
  });

  test('every option can be set by its flag and by its variable', () => {
    for (const row of optionTable()) {
      if (row.defaultValue === undefined) continue;
      const byFlag = loadConfig({ [row.name]: row.defaultValue }, {});
      const byVariable = fromEnv({ [row.variable]: row.defaultValue });
      assert.deepEqual(byFlag, byVariable, row.name);
      assert.deepEqual(byFlag, fromEnv({}), `the documented default of ${row.name} reads as the default`);
    }
  });
});

test('retention is a whole number of days, or absent', () => {
  assert.equal(fromEnv({ PENSTOCK_RETENTION_DAYS: '30' }).retentionDays, 30);
  assert.equal(fromEnv({ PENSTOCK_RETENTION_DAYS: '' }).retentionDays, undefined);
  for (const value of ['0', '-1', '1.5', 'forever', '36501']) {
    refuses(
      { PENSTOCK_RETENTION_DAYS: value },
      /PENSTOCK_RETENTION_DAYS: expected a whole number from 1 to 36500, got/,
    );
  }
});

describe('what Kubernetes injects for a service called penstock', () => {
  const injected = {
    PENSTOCK_SERVICE_HOST: '10.0.0.11',
    PENSTOCK_SERVICE_PORT: '8080',
    PENSTOCK_SERVICE_PORT_HTTP: '8080',
    PENSTOCK_PORT: 'tcp://10.0.0.11:8080',
    PENSTOCK_PORT_8080_TCP: 'tcp://10.0.0.11:8080',
    PENSTOCK_PORT_8080_TCP_PROTO: 'tcp',
    PENSTOCK_PORT_8080_TCP_PORT: '8080',
    PENSTOCK_PORT_8080_TCP_ADDR: '10.0.0.11',
    PENSTOCK_ADMIN_SERVICE_HOST: '10.0.0.12',
    PENSTOCK_ADMIN_PORT: 'tcp://10.0.0.12:9464',
    PENSTOCK_ADMIN_PORT_9464_TCP_ADDR: '10.0.0.12',
  };

  test('is ignored', () => {
    assert.deepEqual(fromEnv(injected), fromEnv({}));
    for (const [name, value] of Object.entries(injected)) assert.ok(isInjectedByKubernetes(name, value), name);
  });

  test('leaves PORT to be read', () => {
    assert.equal(fromEnv({ ...injected, PORT: '7000' }).port, 7000);
  });

  test('does not hide a port that was set', () => {
    assert.equal(fromEnv({ PENSTOCK_PORT: '9000', PENSTOCK_SERVICE_HOST: '10.0.0.11' }).port, 9000);
    refuses({ PENSTOCK_PORT: 'http://10.0.0.11:8080' }, /^PENSTOCK_PORT: /);
  });
});

describe('precedence', () => {
  test('a flag wins over the environment, the environment over the file, the file over the default', () => {
    const config = file({ port: 1001, adminPort: 1002, host: 'file', adminHost: 'file' });
    const flags = { config, port: '3001' };
    const env = { PENSTOCK_PORT: '2001', PENSTOCK_ADMIN_PORT: '2002', PENSTOCK_HOST: 'env' };
    const { port, adminPort, host, adminHost, logLevel } = loadConfig(flags, env);
    assert.deepEqual(
      { port, adminPort, host, adminHost, logLevel },
      { port: 3001, adminPort: 2002, host: 'env', adminHost: 'file', logLevel: 'info' },
    );
  });

  test('PORT stands in for PENSTOCK_PORT: below it and the flag, above the file', () => {
    assert.equal(fromEnv({ PORT: '7000' }).port, 7000);
    assert.equal(fromEnv({ PORT: '7000', PENSTOCK_PORT: '7001' }).port, 7001);
    assert.equal(loadConfig({ port: '7002' }, { PORT: '7000' }).port, 7002);
    assert.equal(loadConfig({ config: file({ port: 7003 }) }, { PORT: '7000' }).port, 7000);
    refuses({ PORT: 'abc' }, /^PORT: expected a whole number/);
  });

  test('an empty variable counts as absent', () => {
    assert.deepEqual(fromEnv({ PENSTOCK_PORT: '', PENSTOCK_API_KEYS: '', PORT: '' }), fromEnv({}));
    assert.equal(fromEnv({ PENSTOCK_PORT: '', PORT: '7000' }).port, 7000);
  });

  test('an empty flag is a bad value', () => {
    refuses({}, /^--host: expected a host name/, { host: '' });
  });
});

describe('bad values', () => {
  const cases: readonly (readonly [Environment, RegExp])[] = [
    [{ PENSTOCK_PORT: 'abc' }, /^PENSTOCK_PORT: expected a whole number from 0 to 65535, got "abc"$/],
    [{ PENSTOCK_PORT: '65536' }, /^PENSTOCK_PORT: .*65535/],
    [{ PENSTOCK_PORT: '-1' }, /^PENSTOCK_PORT: /],
    [{ PENSTOCK_PORT: '80.5' }, /^PENSTOCK_PORT: /],
    [{ PENSTOCK_PORT: '1e3' }, /^PENSTOCK_PORT: /],
    [{ PENSTOCK_PORT: ' 80' }, /^PENSTOCK_PORT: /],
    [{ PENSTOCK_HOST: '0.0.0.0:80/' }, /^PENSTOCK_HOST: expected a host name or an IP address, got "0.0.0.0:80\/"$/],
    [{ PENSTOCK_FLUSH_INTERVAL_MS: '0' }, /^PENSTOCK_FLUSH_INTERVAL_MS: /],
    [{ PENSTOCK_WAL_MAX_BYTES: '63KiB' }, /^PENSTOCK_WAL_MAX_BYTES: .*at least 64KiB, got "63KiB"$/],
    [{ PENSTOCK_WAL_MAX_BYTES: '1MB' }, /^PENSTOCK_WAL_MAX_BYTES: .*8GiB/],
    [{ PENSTOCK_WAL_MAX_BYTES: '99999999999GiB' }, /^PENSTOCK_WAL_MAX_BYTES: /],
    [{ PENSTOCK_LOG_LEVEL: 'loud' }, /^PENSTOCK_LOG_LEVEL: expected one of fatal, error, warn/],
    [{ PENSTOCK_READY_REQUIRES_CLICKHOUSE: 'perhaps' }, /^PENSTOCK_READY_REQUIRES_CLICKHOUSE: expected true or false/],
    [{ PENSTOCK_CHANNELS: 'web,' }, /^PENSTOCK_CHANNELS: /],
    [{ PENSTOCK_CHANNELS: 'web,web' }, /^PENSTOCK_CHANNELS: .*different/],
    [{ PENSTOCK_CLICKHOUSE_DATABASE: 'a-b' }, /^PENSTOCK_CLICKHOUSE_DATABASE: expected an identifier/],
    [{ PENSTOCK_CLICKHOUSE_DATABASE: 'system' }, /^PENSTOCK_CLICKHOUSE_DATABASE: system belongs to ClickHouse/],
    [{ PENSTOCK_CLICKHOUSE_DATABASE: 'Information_Schema' }, /^PENSTOCK_CLICKHOUSE_DATABASE: /],
    [{ PENSTOCK_ENCODER_THREADS: '0' }, /^PENSTOCK_ENCODER_THREADS: /],
    [{ PENSTOCK_METRICS_CONCURRENCY: '0' }, /^PENSTOCK_METRICS_CONCURRENCY: /],
  ];
  for (const [env, message] of cases) {
    test(`${JSON.stringify(env)} stops the start`, () => void refuses(env, message));
  }

  test('a flag is named as the flag that it is', () => {
    refuses({ PENSTOCK_PORT: '1' }, /^--port: /, { port: 'x' });
    refuses({}, /^unknown option nonsense$/, { nonsense: '1' });
  });
});

describe('forms', () => {
  test('sizes are bytes or carry KiB, MiB or GiB', () => {
    const size = (text: string) => fromEnv({ PENSTOCK_WAL_MAX_BYTES: text }).walMaxBytes;
    assert.equal(size('65536'), 65_536);
    assert.equal(size('64KiB'), 65_536);
    assert.equal(size('1MiB'), MIB);
    assert.equal(size('1 mib'), MIB);
    assert.equal(size('8GiB'), 8 * GIB);
  });

  test('booleans have the usual spellings, and a flag may stand alone', () => {
    const ready = (value: string) => fromEnv({ PENSTOCK_READY_REQUIRES_CLICKHOUSE: value }).readyRequiresClickhouse;
    for (const text of ['true', 'TRUE', '1', 'yes', 'on']) assert.equal(ready(text), true, text);
    for (const text of ['false', 'False', '0', 'no', 'off']) assert.equal(ready(text), false, text);
    const env = { PENSTOCK_READY_REQUIRES_CLICKHOUSE: 'true' };
    assert.equal(loadConfig({ readyRequiresClickhouse: true }, {}).readyRequiresClickhouse, true);
    assert.equal(loadConfig({ readyRequiresClickhouse: 'false' }, env).readyRequiresClickhouse, false);
  });

  test('the channels are a list', () => {
    assert.deepEqual(fromEnv({ PENSTOCK_CHANNELS: 'web, in-store' }).channels, ['web', 'in-store']);
  });

  test('the data directory becomes absolute', () => {
    assert.equal(fromEnv({ PENSTOCK_DATA_DIR: 'some/where' }).dataDir, path.resolve('some/where'));
    assert.equal(fromEnv({ PENSTOCK_DATA_DIR: '/var/lib/penstock' }).dataDir, '/var/lib/penstock');
  });

  test('the ClickHouse URL loses its trailing slash and may have no credentials, path or query', () => {
    const url = (text: string) => fromEnv({ PENSTOCK_CLICKHOUSE_URL: text }).clickhouseUrl;
    assert.equal(url('http://localhost:8123/'), 'http://localhost:8123');
    assert.equal(url('https://ch.example.com:8443'), 'https://ch.example.com:8443');
    for (const bad of ['localhost:8123', 'ftp://localhost', 'http://', 'http:localhost', 'tcp://localhost:9000']) {
      refuses({ PENSTOCK_CLICKHOUSE_URL: bad }, /^PENSTOCK_CLICKHOUSE_URL: expected a URL/);
    }
    refuses({ PENSTOCK_CLICKHOUSE_URL: 'http://h:1/analytics' }, /PENSTOCK_CLICKHOUSE_DATABASE/);
    refuses({ PENSTOCK_CLICKHOUSE_URL: 'http://h:1/?x=1' }, /path or query/);
    const message = refuses(
      { PENSTOCK_CLICKHOUSE_URL: 'http://bob:hunter22@h:1' },
      /PENSTOCK_CLICKHOUSE_USER and PENSTOCK_CLICKHOUSE_PASSWORD/,
    );
    assert.ok(!message.includes('hunter22'));
  });
});

describe('relations', () => {
  test('two bodies of the largest size fit in flight', () => {
    refuses(
      { PENSTOCK_BODY_MAX_BYTES: '33MiB', PENSTOCK_IN_FLIGHT_MAX_BYTES: '64MiB' },
      /^PENSTOCK_BODY_MAX_BYTES: 33MiB .*PENSTOCK_IN_FLIGHT_MAX_BYTES/,
    );
    refuses({}, /--in-flight-max-bytes \(1MiB\)/, { inFlightMaxBytes: '1MiB' });
    assert.equal(fromEnv({ PENSTOCK_BODY_MAX_BYTES: '48MiB' }).bodyMaxBytes, 48 * MIB);
  });

  test('the listeners have different ports, unless both take any', () => {
    refuses({ PENSTOCK_PORT: '9464' }, /9464 is the port of PENSTOCK_PORT too/);
    assert.equal(fromEnv({ PENSTOCK_PORT: '0', PENSTOCK_ADMIN_PORT: '0' }).port, 0);
  });
});

describe('a file', () => {
  test('spells its keys like flags or like fields, with values of their own type or as text', () => {
    const config = file({
      'wal-max-bytes': '1MiB',
      bodyMaxBytes: 1024,
      'ready-requires-clickhouse': true,
      channels: ['web'],
      'drain-delay-ms': '5',
    });
    const loaded = loadConfig({ config }, {});
    assert.equal(loaded.walMaxBytes, MIB);
    assert.equal(loaded.bodyMaxBytes, 1024);
    assert.equal(loaded.readyRequiresClickhouse, true);
    assert.deepEqual(loaded.channels, ['web']);
    assert.equal(loaded.drainDelayMs, 5);
  });

  test('can be named by PENSTOCK_CONFIG', () => {
    assert.equal(fromEnv({ PENSTOCK_CONFIG: file({ port: 1234 }) }).port, 1234);
  });

  test('is refused with its name and what is wrong', () => {
    refuses({}, /^--config .*nowhere\.json: cannot be read/, { config: file({}).replace('options', 'nowhere') });
    refuses({}, /options\.json: not valid JSON/, { config: file('{"clickhousePassword": "hunter22"') });
    refuses({}, /expected a JSON object/, { config: file([]) });
    refuses({}, /expected a JSON object/, { config: file('null') });
    refuses({}, /unknown option "prot" in .*; did you mean port\?/, { config: file({ prot: 1 }) });
    refuses({}, /"data-dir" in .*given twice/, { config: file({ dataDir: 'a', 'data-dir': 'b' }) });
    refuses({}, /option "port" in .*options\.json: expected a whole number/, { config: file({ port: 80.5 }) });
    refuses({}, /option "host" in .*: expected a host name/, { config: file({ host: 7 }) });
    refuses({}, /option "host" in .*: expected a host name/, { config: file({ host: null }) });
    refuses({}, /unknown option "__proto__"/, { config: file('{"__proto__": 1}') });
  });
});

test('no text in any variable does more than start or throw a ConfigError', () => {
  const names = optionTable().map((row) => row.variable);
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), fc.string({ unit: 'binary' }), { maxKeys: 4 }), (env) => {
      try {
        fromEnv(env);
      } catch (error) {
        assert.ok(error instanceof ConfigError, String(error));
      }
    }),
    { numRuns: 300 },
  );
});
