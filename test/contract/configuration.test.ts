import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { assertAccepted, assertInvalid, assertRefused, event, postBulk, postEvent, send } from '../support/requests.js';
import { removeDirectory, Service, temporaryDirectory } from '../support/service.js';

/** api.md, "Configuration": where options come from, what stops the start, and the `listening` line. */

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const COMMAND = fileURLToPath(new URL('../../src/cli/penstock.js', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command, for starts that are to fail: they end by themselves. */
async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('PENSTOCK_') && name !== 'PORT');
  const child = spawn(process.execPath, [COMMAND, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...Object.fromEntries(own), ...env },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data) => (stdout += String(data)));
  child.stderr.on('data', (data) => (stderr += String(data)));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** The start fails, with one line on standard error that names what is wrong. */
async function assertStops(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  ...named: readonly string[]
): Promise<Ended> {
  const ended = await run(args, env);
  assert.notEqual(ended.code, 0, JSON.stringify({ args, env }));
  assert.notEqual(ended.code, null);
  for (const name of named) assert.ok(ended.stderr.includes(name), `${name} is not in ${ended.stderr}`);
  assert.doesNotMatch(ended.stderr, /\n {4}at /);
  return ended;
}

async function takePort(): Promise<{ port: number; release: () => Promise<void> }> {
  const server = net.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const release = async (): Promise<void> => {
    server.close();
    await once(server, 'close');
  };
  return { port: (server.address() as net.AddressInfo).port, release };
}

async function withService(
  options: Parameters<typeof Service.start>[0],
  work: (service: Service) => Promise<void>,
): Promise<void> {
  const service = await Service.start(options);
  try {
    await work(service);
  } finally {
    await service.dispose();
  }
}

describe('what stops the start', () => {
  test('a value that cannot be meant, named as it was written', async () => {
    await Promise.all([
      assertStops([], { PENSTOCK_PORT: 'eighty' }, 'PENSTOCK_PORT'),
      assertStops([], { PENSTOCK_PORT: '65536' }, 'PENSTOCK_PORT', '65536'),
      assertStops(['--port', '-1'], {}, '--port'),
    ]);
    await Promise.all([
      assertStops([], { PORT: 'x' }, 'PORT'),
      assertStops([], { PENSTOCK_WAL_MAX_BYTES: '8GB' }, 'PENSTOCK_WAL_MAX_BYTES'),
      assertStops(['--flush-interval-ms', '1.5'], {}, '--flush-interval-ms'),
      assertStops([], { PENSTOCK_CHANNELS: 'web,,api' }, 'PENSTOCK_CHANNELS'),
    ]);
    await Promise.all([
      assertStops([], { PENSTOCK_CLICKHOUSE_URL: 'localhost:8123' }, 'PENSTOCK_CLICKHOUSE_URL'),
      assertStops([], { PENSTOCK_READY_REQUIRES_CLICKHOUSE: 'maybe' }, 'PENSTOCK_READY_REQUIRES_CLICKHOUSE'),
      assertStops([], { PENSTOCK_LOG_LEVEL: 'loud' }, 'PENSTOCK_LOG_LEVEL'),
    ]);
  });

  test('an unknown name, in the environment, as a flag, in the file, or as a command', async () => {
    const directory = temporaryDirectory();
    try {
      const file = path.join(directory, 'config.json');
      fs.writeFileSync(file, '{"port":0,"wall-max-bytes":1}');
      await Promise.all([
        assertStops([], { PENSTOCK_WAL_MAX_BYTE: '1' }, 'PENSTOCK_WAL_MAX_BYTE', 'PENSTOCK_WAL_MAX_BYTES'),
        assertStops(['--prot', '1'], {}, '--prot'),
        assertStops(['--config', file], {}, 'wall-max-bytes', file),
        assertStops(['--config', path.join(directory, 'missing.json')], {}, 'missing.json'),
        assertStops(['nonsense'], {}, 'nonsense'),
      ]);
    } finally {
      await removeDirectory(directory);
    }
  });

  test('without ever showing a password or a key', async () => {
    const secret = 'Sup3rSecret,Value:of@nothing';
    const ended = await Promise.all([
      assertStops([], { PENSTOCK_API_KEYS: secret }, 'PENSTOCK_API_KEYS'),
      assertStops([], { PENSTOCK_CLICKHOUSE_URL: 'http://user:Sup3rSecret@localhost:8123' }, 'PENSTOCK_CLICKHOUSE_URL'),
    ]);
    for (const { stdout, stderr } of ended) assert.ok(!(stdout + stderr).includes('Sup3rSecret'), stderr);
  });

  test('a port that is taken, on either listener, named with its address', async () => {
    const { port, release } = await takePort();
    try {
      // No ClickHouse is started for these: the listeners open last.
      const base = { PENSTOCK_PORT: '0', PENSTOCK_ADMIN_PORT: '0', PENSTOCK_CLICKHOUSE_URL: 'http://127.0.0.1:9' };
      for (const variable of ['PENSTOCK_PORT', 'PENSTOCK_ADMIN_PORT']) {
        const dataDir = temporaryDirectory();
        const ended = await assertStops(
          [],
          { ...base, PENSTOCK_DATA_DIR: dataDir, [variable]: String(port) },
          `127.0.0.1:${port}`,
        );
        assert.ok(!ended.stdout.includes('"listening"'));
        await removeDirectory(dataDir);
      }
    } finally {
      await release();
    }
  });
});

describe('where options come from', () => {
  test('a flag wins over the environment, the environment over the file; Kubernetes variables are not options', async () => {
    const directory = temporaryDirectory();
    const file = path.join(directory, 'config.json');
    fs.writeFileSync(file, JSON.stringify({ channels: ['file'], 'bulk-max-events': 1, futureToleranceS: 1 }));
    try {
      await withService(
        {
          args: ['--config', file, '--channels=flag,other'],
          env: {
            PENSTOCK_CHANNELS: 'environment',
            PENSTOCK_BULK_MAX_EVENTS: '2',
            PENSTOCK_SERVICE_HOST: '10.0.0.7',
            PENSTOCK_SERVICE_PORT: '8080',
            PENSTOCK_SERVICE_PORT_HTTP: '8080',
            PENSTOCK_PORT: 'tcp://10.0.0.7:8080',
            PENSTOCK_PORT_8080_TCP: 'tcp://10.0.0.7:8080',
            PENSTOCK_PORT_8080_TCP_PROTO: 'tcp',
            PENSTOCK_PORT_8080_TCP_PORT: '8080',
            PENSTOCK_PORT_8080_TCP_ADDR: '10.0.0.7',
            PENSTOCK_ADMIN_SERVICE_HOST: '10.0.0.8',
            PENSTOCK_CLICKHOUSE_DATABASE: '',
            PORT: '0',
          },
        },
        async (service) => {
          for (const channel of ['flag', 'other']) assertAccepted(await postEvent(service, event({ channel })));
          for (const channel of ['web', 'environment', 'file'])
            assertInvalid(await postEvent(service, event({ channel })), '/channel');
          const events = (count: number): string =>
            JSON.stringify(Array.from({ length: count }, () => event({ channel: 'flag' })));
          assert.equal((await postBulk(service, events(2))).status, 202);
          assertRefused(await postBulk(service, events(3)), 413, 'payload_too_large');
          assertInvalid(
            await postEvent(service, event({ channel: 'flag', timestamp: Math.floor(Date.now() / 1000) + 30 })),
            '/timestamp',
          );
        },
      );
    } finally {
      await removeDirectory(directory);
    }
  });

  test('PORT is read where PENSTOCK_PORT is absent; both listeners answer when the listening line is there', async () => {
    const { port, release } = await takePort();
    await release();
    await withService(
      { env: { PENSTOCK_PORT: '', PORT: String(port), PENSTOCK_LOG_LEVEL: 'error' } },
      async (service) => {
        assert.equal(service.url, `http://127.0.0.1:${port}`);
        const [health, admin] = await Promise.all([send(`${service.url}/health`), send(`${service.adminUrl}/health`)]);
        assert.deepEqual([health.status, admin.status], [200, 200]);
        // Printed whatever the level, once, with the three addresses, among nothing else.
        const lines = service.lines.filter(({ msg }) => msg === 'listening');
        assert.equal(lines.length, 1);
        assert.deepEqual(service.lines, lines);
        assert.match(service.adminUrl, /^http:\/\/127\.0\.0\.1:\d+$/);
        assert.match(service.clickhouseUrl, /^http:\/\/127\.0\.0\.1:\d+$/);
        assert.equal(await (await fetch(`${service.clickhouseUrl}/ping`)).text(), 'Ok.\n');
      },
    );
  });

  test('the size limits of a body are options', async () => {
    await withService({ env: { PENSTOCK_BODY_MAX_BYTES: '1KiB' } }, async (service) => {
      const padded = (bytes: number): string => JSON.stringify(event()).padEnd(bytes, ' ');
      assertAccepted(await postEvent(service, padded(1024)));
      assertRefused(await postEvent(service, padded(1025)), 413, 'payload_too_large');
      assertRefused(await postBulk(service, `[${padded(1024)}]`), 413, 'payload_too_large');
    });
  });

  test('every default of a listener is loopback, and no log line has the password', async () => {
    await withService({}, async (service) => {
      assertAccepted(await postEvent(service, event()));
      await service.settled();
      for (const url of [service.url, service.adminUrl, service.clickhouseUrl])
        assert.equal(new URL(url).hostname, '127.0.0.1');
      assert.ok(service.lines.length > 1);
      for (const line of service.lines) {
        assert.notEqual(line.level, 'none', JSON.stringify(line));
        assert.ok(!JSON.stringify(line).includes('for-tests-only'), JSON.stringify(line));
      }
      const names = fs.readdirSync(service.dataDir);
      for (const name of ['clickhouse', 'wal']) assert.ok(names.includes(name), names.join(' '));
    });
  });
});

describe('the command', () => {
  test('--help and --version answer at once and exit 0', async () => {
    const [help, version] = await Promise.all([run(['--help']), run(['--version'])]);
    assert.deepEqual([help.code, version.code], [0, 0]);
    for (const name of ['--clickhouse-url', 'PENSTOCK_CLICKHOUSE_URL', '--port', 'PENSTOCK_WAL_MAX_BYTES', '8GiB']) {
      assert.ok(help.stdout.includes(name), name);
    }
    assert.match(version.stdout, /^\d+\.\d+\.\d+/);
  });

  test('npm start -- ARGUMENTS passes arguments on', async () => {
    // Without its scripts around it: a build would change the files that other tests run.
    const child = spawn('npm', ['start', '--ignore-scripts', '--silent', '--', '--port', 'nonsense'], {
      cwd: REPOSITORY,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (data) => (stderr += String(data)));
    const [code] = (await once(child, 'close')) as [number | null];
    assert.notEqual(code, 0);
    assert.match(stderr, /--port: expected .* got "nonsense"/);
  });
});
