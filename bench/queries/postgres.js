/**
 * PostgreSQL beside, where it is installed: a cluster of its own in a temporary directory, on a free port, gone afterwards. It has the
 * same rows, the index that the questions want, and settings of a machine that is its own.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '../harness/options.js';
import { progressBar, say } from '../harness/progress.js';
import { temporaryDataDir } from '../harness/service.js';
import { daysOf } from './dataset.js';
import { answerOfRows, nowS } from './questions.js';
import { POSTGRES_DIALECT, statement } from './systems.js';

const PACKAGES = '/usr/lib/postgresql';
const INSTALL = 'PostgreSQL is not installed: apt-get update && apt-get install -y postgresql';
const START_MS = 30_000;
const STATEMENT_TIMEOUT_MS = 120_000;

const SETTINGS = {
  shared_buffers: '1GB',
  work_mem: '256MB',
  maintenance_work_mem: '1GB',
  max_wal_size: '8GB',
  effective_cache_size: '4GB',
  random_page_cost: '1.1',
  timezone: 'UTC',
  listen_addresses: '127.0.0.1',
  // For loading alone; nothing is written while it is asked.
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  autovacuum: 'off',
};

/**
 * Where Debian puts the newest version's programs. Throws, before anything is made, where there is none or where its user may not enter
 * `dataRoot`.
 */
export function requirePostgres(dataRoot, packages = PACKAGES) {
  const versions = existsSync(packages) ? readdirSync(packages).toSorted((a, b) => Number(b) - Number(a)) : [];
  const found = versions
    .map((version) => join(packages, version, 'bin'))
    .find((bin) => existsSync(join(bin, 'initdb')));
  if (found === undefined) throw new UsageError(INSTALL);
  mkdirSync(dataRoot, { recursive: true });
  requirePassage(resolve(dataRoot), owner());
  return found;
}

/** It refuses to run as root. */
function owner() {
  if (process.getuid() !== 0) return {};
  const idOf = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: idOf('-u'), gid: idOf('-g') };
}

/**
 * Started, filled and asked like the others.
 * @returns {Promise<import('./systems.js').System & { about: object }>}
 */
export async function startPostgres(dataRoot, clickhouse) {
  const bin = requirePostgres(dataRoot);
  const as = owner();
  const { dataDir: directory, remove } = temporaryDataDir(resolve(dataRoot));
  if (as.uid !== undefined) chownSync(directory, as.uid, as.gid);
  const run = { ...as, cwd: directory, env: { PATH: process.env.PATH, LC_ALL: 'C.UTF-8', PGTZ: 'UTC' } };
  execFileSync(join(bin, 'initdb'), ['-D', 'cluster', '-A', 'trust', '-U', 'bench', '-E', 'UTF8', '--no-sync'], {
    ...run,
    stdio: 'pipe',
  });
  const port = await freePort();
  const settings = Object.entries(SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const server = spawn(join(bin, 'postgres'), ['-D', 'cluster', '-p', String(port), '-k', directory, ...settings], {
    ...run,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const complaints = [];
  server.stderr.setEncoding('utf8').on('data', (text) => complaints.push(text));
  const ended = once(server, 'exit');
  const end = () => server.kill('SIGKILL');
  process.prependOnceListener('exit', end);
  const psql = [
    '-X',
    '-q',
    '-A',
    '-t',
    '-F',
    '\t',
    '-v',
    'ON_ERROR_STOP=1',
    '-h',
    directory,
    '-p',
    String(port),
    '-U',
    'bench',
    '-d',
    'postgres',
  ];
  const psqlOnce = (sql) =>
    execFileSync(join(bin, 'psql'), [...psql, '-c', sql], { ...run, encoding: 'utf8', stdio: 'pipe' }).trim();
  const stop = async () => {
    server.kill('SIGINT');
    await ended;
    process.removeListener('exit', end);
    remove();
  };
  try {
    await untilReady(psqlOnce, server, complaints);
    const version = psqlOnce('SHOW server_version');
    const loadS = await load({ bin, psql, run, psqlOnce }, clickhouse);
    const session = new Session(spawn(join(bin, 'psql'), psql, { ...run, stdio: ['pipe', 'pipe', 'pipe'] }));
    await session.ask(`SET statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
    return {
      name: 'PostgreSQL',
      about: {
        version,
        settings: SETTINGS,
        loadS,
        rows: Number(psqlOnce('SELECT count(*) FROM events')),
        MiB: Number(psqlOnce(`SELECT pg_total_relation_size('events') / 1048576`)),
      },
      async ask(question, atS = nowS()) {
        const sql = statement(question, question.range(atS), 'events', POSTGRES_DIALECT);
        const from = performance.now();
        const rows = await session.ask(sql);
        return { ms: performance.now() - from, read: () => answerOfRows(question, rows) };
      },
      async close() {
        session.close();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A home of mode 0700 somewhere above would be a riddle. */
function requirePassage(directory, as) {
  if (as.uid === undefined) return;
  for (let at = directory; at !== '/'; at = dirname(at)) {
    const { status } = spawnSync('test', ['-x', at], as);
    if (status !== 0)
      throw new UsageError(`the user postgres may not enter ${at}: give a --data-root that it may, such as /var/tmp`);
  }
}

async function untilReady(ask, server, complaints) {
  const from = performance.now();
  for (;;) {
    try {
      ask('SELECT 1');
      return;
    } catch (error) {
      if (server.exitCode !== null || performance.now() - from > START_MS)
        throw new Error(`PostgreSQL did not start:\n${complaints.join('')}`, { cause: error });
      await sleep(50);
    }
  }
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

/** Every raw row, duplicates too, from ClickHouse by COPY; then the index and statistics. @returns {Promise<number>} seconds */
async function load({ bin, psql, run, psqlOnce }, clickhouse) {
  const from = performance.now();
  psqlOnce(
    `CREATE TABLE events (event_id uuid, event_name text, channel text, user_id text, ts timestamptz, campaign_id text, tags text[], metadata text)`,
  );
  const copy = spawn(join(bin, 'psql'), [...psql, '-c', 'COPY events FROM STDIN WITH (FORMAT csv)'], {
    ...run,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const complaints = [];
  copy.stderr.setEncoding('utf8').on('data', (text) => complaints.push(text));
  const copied = once(copy, 'exit');
  const broken = await pipeline(rawRows(clickhouse), copy.stdin).catch((/** @type {unknown} */ error) => error);
  const [code] = await copied;
  if (code !== 0 || broken !== undefined)
    throw new Error(`COPY into PostgreSQL failed: ${complaints.join('')}`, { cause: broken });
  say('PostgreSQL: index on (event_name, ts), VACUUM ANALYZE');
  psqlOnce('CREATE INDEX ON events (event_name, ts)');
  psqlOnce('VACUUM ANALYZE events');
  return Math.round((performance.now() - from) / 1000);
}

/** As CSV, day by day. */
async function* rawRows(clickhouse) {
  const days = await daysOf(clickhouse);
  const bar = progressBar('rows for PostgreSQL', days.length, 'days');
  bar(0);
  for (const [done, day] of days.entries()) {
    const query = `SELECT event_id, event_name, channel, user_id, ts, campaign_id, concat('{', arrayStringConcat(tags, ','), '}'), metadata FROM penstock.events WHERE ${day} FORMAT CSV`;
    yield* await stream(clickhouse, query);
    bar(done + 1);
  }
}

async function stream({ url, user, password }, query) {
  const headers = { 'X-ClickHouse-User': user, 'X-ClickHouse-Key': password };
  const request = http.request(url, { method: 'POST', headers, agent: false }).end(query);
  const [response] = await once(request, 'response');
  if (response.statusCode !== 200) throw new Error(`ClickHouse answered ${response.statusCode} for PostgreSQL's rows`);
  return response;
}

/** A psql that stays: what it costs beside the query is a pipe, as HTTP is for the others. */
class Session {
  #child;
  #text = '';
  #complaints = '';
  #settle = () => {};
  #asked = 0;

  constructor(child) {
    this.#child = child;
    child.stdout.setEncoding('utf8').on('data', (text) => {
      this.#text += text;
      if (this.#text.endsWith(this.#mark)) this.#settle();
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#complaints += text;
    });
    // ON_ERROR_STOP ends it at the first error.
    child.once('exit', () => this.#settle());
  }

  get #mark() {
    return `asked ${this.#asked}\n`;
  }

  /** @returns {Promise<string[][]>} */
  async ask(sql) {
    this.#asked += 1;
    this.#text = '';
    const answered = new Promise((settle) => {
      this.#settle = settle;
    });
    if (this.#child.exitCode === null) this.#child.stdin.write(`${sql};\n\\echo asked ${this.#asked}\n`);
    else this.#settle();
    await answered;
    if (!this.#text.endsWith(this.#mark)) throw new Error(`PostgreSQL: ${this.#complaints.trim() || 'psql ended'}`);
    return this.#text
      .slice(0, -this.#mark.length)
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('\t'));
  }

  close() {
    this.#child.stdin.end('\\q\n');
  }
}
