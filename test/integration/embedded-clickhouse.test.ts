/** The embedded ClickHouse against a real one: what it serves and to whom, and that it outlives everything but its parent. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, readlink, rm, stat } from 'node:fs/promises';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { pino } from 'pino';

import { type EmbeddedClickHouse, startEmbedded } from '../../src/shared/clickhouse/embedded/launcher.js';
import { locateLibrary, thisHost } from '../../src/shared/clickhouse/embedded/library.js';

const LAUNCHER = new URL('../../src/shared/clickhouse/embedded/launcher.js', import.meta.url).href;

function whyUnavailable(): string | false {
  try {
    locateLibrary(thisHost());
    return false;
  } catch (error) {
    return String(error);
  }
}

interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly tail?: readonly string[];
}

/** A logger whose lines can be looked at. */
function capture(): { log: pino.Logger; text: () => string; lines: () => LogLine[] } {
  const raw: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => void raw.push(line) });
  return { log, text: () => raw.join(''), lines: () => raw.map((line) => JSON.parse(line) as LogLine) };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Without keep-alive, for an open connection makes ClickHouse's end slow. */
async function http(
  url: string,
  sql: string | Buffer,
  options: { headers?: Record<string, string>; params?: Record<string, string | number> } = {},
): Promise<Answer> {
  const target = new URL(url);
  for (const [name, value] of Object.entries(options.params ?? {})) target.searchParams.set(name, String(value));
  const call = request(target, { method: 'POST', agent: false, headers: options.headers ?? {} });
  call.end(sql);
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  response.setEncoding('utf8');
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode ?? 0, headers: response.headers, body: body.trim() };
}

function basic(user: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

async function query(
  server: EmbeddedClickHouse,
  sql: string | Buffer,
  params: Record<string, string | number> = {},
): Promise<string> {
  const answer = await http(server.url, sql, { headers: basic(server.user, server.password), params });
  assert.equal(answer.status, 200, answer.body);
  return answer.body;
}

async function until(what: string, condition: () => boolean | Promise<boolean>, deadlineMs = 10_000): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > endMs) assert.fail(`not within ${deadlineMs} ms: ${what}`);
    await pause(10);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function pidOf(server: EmbeddedClickHouse): number {
  assert.ok(server.pid !== undefined);
  return server.pid;
}

async function listenOn(port: number): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy());
  server.listen(port, '127.0.0.1');
  return once(server, 'listening').then(
    () => server,
    () => undefined,
  );
}

async function answers(server: EmbeddedClickHouse): Promise<boolean> {
  return query(server, 'SELECT 1').then(
    (body) => body === '1',
    () => false,
  );
}

/** Addresses that a process listens on, IPv4 and IPv6, as the kernel writes them. */
async function listeners(pid: number): Promise<string[]> {
  const sockets = new Set<string>();
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) sockets.add(inode);
  }
  const found: string[] = [];
  for (const table of ['tcp', 'tcp6']) {
    const rows = await readFile(`/proc/${pid}/net/${table}`, 'utf8').catch(() => '');
    for (const row of rows.split('\n').slice(1)) {
      const [, local, , state, , , , , , inode] = row.trim().split(/\s+/);
      if (state === '0A' && local !== undefined && sockets.has(inode ?? '')) found.push(local);
    }
  }
  return found;
}

describe('embedded ClickHouse', { skip: whyUnavailable() }, () => {
  let root: string;
  let server: EmbeddedClickHouse;
  const captured = capture();

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'penstock-embedded-'));
    const { log } = captured;
    server = await startEmbedded({ dataDir: root, user: 'writer', password: undefined, database: 'events-1', log });
  });

  after(async () => {
    // Not there if it could not be started: that failure is the one to show.
    await (server as EmbeddedClickHouse | undefined)?.stop();
    await rm(root, { recursive: true, force: true });
  });

  test('the configured user may make databases, tables and dictionaries, insert, mutate and read', async () => {
    assert.equal(await query(server, 'SELECT currentUser(), timezone()'), 'writer\tUTC');
    assert.equal(await query(server, "SELECT engine FROM system.databases WHERE name = 'events-1'"), 'Atomic');
    await query(server, 'CREATE DATABASE other');
    await query(server, 'CREATE TABLE other.t (k UInt64, v String) ENGINE = ReplacingMergeTree ORDER BY k');
    await query(server, "INSERT INTO other.t VALUES (1, 'a'), (2, 'b')");
    await query(server, 'ALTER TABLE other.t DELETE WHERE k = 2 SETTINGS mutations_sync = 1');
    await query(server, 'OPTIMIZE TABLE other.t FINAL');
    await query(
      server,
      `CREATE DICTIONARY other.d (k UInt64, v String) PRIMARY KEY k LIFETIME(0) LAYOUT(HASHED())
       SOURCE(CLICKHOUSE(QUERY 'SELECT k, v FROM other.t' USER 'writer' PASSWORD '${server.password}'))`,
    );
    assert.equal(await query(server, "SELECT dictGet('other.d', 'v', 1::UInt64)"), 'a');
    await query(server, 'DROP DATABASE other');
  });

  test('nobody else gets a query through, with whatever credentials or none', async () => {
    const { password } = server;
    const attempts: readonly Parameters<typeof http>[2][] = [
      {},
      { headers: basic('default', '') },
      { headers: basic('default', password) },
      { headers: basic('writer', '') },
      { headers: basic('writer', `${password}x`) },
      { headers: { 'x-clickhouse-user': 'default' } },
      { headers: { 'x-clickhouse-user': 'writer' } },
      { headers: { 'x-clickhouse-user': 'default', 'x-clickhouse-key': password } },
      { headers: { 'x-clickhouse-key': password } },
      { params: { user: 'default' } },
      { params: { user: 'default', password: '' } },
    ];
    for (const attempt of attempts) {
      const answer = await http(server.url, 'SELECT 1', attempt);
      assert.equal(answer.status, 403, JSON.stringify(attempt));
      assert.match(answer.body, /^Code: 516\. DB::Exception: .*AUTHENTICATION_FAILED/);
      assert.equal(answer.headers['x-clickhouse-exception-code'], '516');
    }
    const byHeaders = { headers: { 'x-clickhouse-user': 'writer', 'x-clickhouse-key': password } };
    assert.equal((await http(server.url, 'SELECT 1', byHeaders)).body, '1');
  });

  test("behind the listener, the launcher's own user may read and write nothing", async () => {
    assert.deepEqual((await query(server, 'SHOW GRANTS FOR default')).split('\n'), [
      'GRANT CREATE ARBITRARY TEMPORARY TABLE, SYSTEM LISTEN ON *.* TO default',
      'GRANT TABLE ENGINE ON File TO default',
    ]);
  });

  test('it listens on one port of 127.0.0.1 and on nothing else', async () => {
    const port = Number(new URL(server.url).port).toString(16).toUpperCase().padStart(4, '0');
    assert.deepEqual(await listeners(pidOf(server)), [`0100007F:${port}`]);
  });

  test('its files are for our user alone, and none but the password file has the password', async () => {
    const home = join(root, 'clickhouse');
    const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;
    assert.equal(await mode(home), 0o700);
    for (const file of ['password', 'config.xml', 'users.xml']) assert.equal(await mode(join(home, file)), 0o600);
    const secrets = [server.password, Buffer.from(`writer:${server.password}`).toString('base64')];
    assert.equal((await readFile(join(home, 'password'), 'utf8')).trim(), server.password);
    for (const file of ['config.xml', 'users.xml']) {
      const text = await readFile(join(home, file), 'utf8');
      for (const secret of secrets) assert.ok(!text.includes(secret), file);
    }
    const commandLine = await readFile(`/proc/${pidOf(server)}/cmdline`, 'utf8');
    for (const secret of secrets) assert.ok(!commandLine.includes(secret));
  });

  test('what the server complains of is logged, without the password', async () => {
    await http(server.url, `SELECT nonsense '${server.password}`, { headers: basic('writer', server.password) });
    await until('complaint', () => captured.text().includes('nonsense'));
    assert.ok(captured.lines().some((line) => line.level === 40 && JSON.stringify(line).includes('[hidden]')));
    assert.ok(!captured.text().includes(server.password));
  });

  test('64 MiB and 500 000 rows arrive as one block', async () => {
    const rows = 500_000;
    const textLength = 126;
    const rowLength = 8 + 1 + textLength;
    const body = Buffer.alloc(rows * rowLength, 'x');
    for (let row = 0; row < rows; row++) {
      body.writeBigUInt64LE(BigInt(row), row * rowLength);
      body[row * rowLength + 8] = textLength;
    }
    assert.ok(body.length >= 64 * 1024 ** 2);
    await query(server, 'CREATE TABLE `events-1`.big (k UInt64, v String) ENGINE = MergeTree ORDER BY k');
    await query(server, body, {
      query: 'INSERT INTO `events-1`.big FORMAT RowBinary',
      async_insert: 0,
      max_insert_block_size: rows,
      min_insert_block_size_rows: rows,
      min_insert_block_size_bytes: 2 ** 30,
      max_insert_threads: 1,
      input_format_parallel_parsing: 0,
    });
    const parts = "SELECT max(max_block_number), sum(rows) FROM system.parts WHERE table = 'big' AND active";
    assert.equal(await query(server, parts), `1\t${rows}`);
    await query(server, 'DROP TABLE `events-1`.big SYNC');
  });

  test('signals for the whole process group do not end it', async () => {
    const pid = pidOf(server);
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(pid, signal);
    assert.equal(await query(server, 'SELECT sleep(0.2)'), '0');
    assert.equal(server.pid, pid);
  });

  test('a crash is followed by a restart on the same port with everything that was stored', async () => {
    await query(
      server,
      'CREATE TABLE `events-1`.kept (k UInt64) ENGINE = MergeTree ORDER BY k SETTINGS fsync_after_insert = 1',
    );
    await query(server, 'INSERT INTO `events-1`.kept SELECT number FROM numbers(1000)');
    const { url, password } = server;
    for (let crash = 1; crash <= 2; crash++) {
      const crashed = pidOf(server);
      process.kill(crashed, 'SIGKILL');
      await until('restart', () => server.pid !== crashed && server.pid !== undefined && answers(server));
      assert.equal(await query(server, 'SELECT count() FROM `events-1`.kept'), '1000');
    }
    assert.deepEqual([server.url, server.password], [url, password]);
    assert.ok(captured.lines().some((line) => line.level === 50 && line.msg.includes('ended by itself')));
  });

  test('a port taken by another between crash and restart is waited for', async () => {
    const port = Number(new URL(server.url).port);
    const crashed = pidOf(server);
    process.kill(crashed, 'SIGKILL');
    let squatter: Server | undefined;
    await until('port', async () => (squatter = await listenOn(port)) !== undefined);
    await until('Code 210', () =>
      captured.lines().some((line) => line.tail?.some((said) => said.includes('Code: 210'))),
    );
    squatter?.close();
    await until('restart', () => answers(server));
  });

  test('a second server on the directory waits for the first to go, with the same password and the same data', async () => {
    const second = capture();
    const { password } = server;
    await query(server, 'CREATE TABLE `events-1`.handed_over (k UInt64) ENGINE = MergeTree ORDER BY k');
    const { log } = second;
    const starting = startEmbedded({ dataDir: root, user: 'writer', password: undefined, database: 'events-1', log });
    await until('notice', () =>
      second.lines().some((line) => line.msg.includes('another process still has the directory')),
    );
    await server.stop();
    server = await starting;
    assert.equal(server.password, password);
    assert.equal(await query(server, 'SELECT count() FROM `events-1`.handed_over'), '0');
  });

  test('it ends with a parent that is killed, and the next one starts on the same directory', async () => {
    const dataDir = join(root, 'killed');
    const parent = await startParent(dataDir);
    assert.ok(isAlive(parent.childPid));
    parent.process.kill('SIGKILL');
    const next = await startEmbedded({ dataDir, user: 'other', password: 'q', database: 'd', log: capture().log });
    try {
      // It gives the directory free before its very end.
      await until('end of the orphan', () => !isAlive(parent.childPid));
      assert.equal(await query(next, "SELECT name FROM system.databases WHERE name LIKE 'from_%'"), 'from_parent');
    } finally {
      await next.stop();
    }
  });

  test('a configured user called default needs its password too', async () => {
    const dataDir = join(root, 'default-user');
    const password = 'opén "sesame" <&>';
    const own = await startEmbedded({ dataDir, user: 'default', password, database: 'd', log: capture().log });
    try {
      await query(own, 'CREATE TABLE d.t (k UInt64) ENGINE = MergeTree ORDER BY k');
      for (const attempt of [{}, { headers: basic('default', '') }, { params: { user: 'default' } }]) {
        assert.equal((await http(own.url, 'SELECT 1', attempt)).status, 403, JSON.stringify(attempt));
      }
      await assert.rejects(stat(join(dataDir, 'clickhouse', 'password')), { code: 'ENOENT' });
    } finally {
      await own.stop();
    }
  });

  test('stop ends the child, also in the middle of a restart, and may be called twice', async () => {
    const dataDir = join(root, 'stopped');
    const own = await startEmbedded({ dataDir, user: 'u', password: 'p', database: 'd', log: capture().log });
    const pid = pidOf(own);
    process.kill(pid, 'SIGKILL');
    await until('end', () => own.pid === undefined);
    await Promise.all([own.stop(), own.stop()]);
    assert.equal(own.pid, undefined);
    assert.ok(!isAlive(pid));
  });
});

/** Another process that starts an embedded server and makes the database `from_parent`. */
async function startParent(dataDir: string): Promise<{ process: ChildProcess; childPid: number }> {
  const script = `
    const { startEmbedded } = await import(${JSON.stringify(LAUNCHER)});
    const { pino } = await import(${JSON.stringify(import.meta.resolve('pino'))});
    const log = pino({ level: 'silent' });
    const options = { dataDir: ${JSON.stringify(dataDir)}, user: 'default', password: 'p', database: 'from_parent', log };
    const server = await startEmbedded(options);
    console.log(server.pid);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  return { process: parent, childPid: Number(String(line)) };
}
