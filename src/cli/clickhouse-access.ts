import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { DataDirLock } from '../main/data-dir-lock.js';
import { createClickHouse } from '../shared/clickhouse/client.js';
import { migrateUp } from '../shared/clickhouse/migrations.js';
import { checkSchema } from '../shared/clickhouse/schema-check.js';
import type { Config } from '../shared/config.js';
import { createLogger, type Logger } from '../shared/log.js';

/**
 * The one way in which a command reaches the ClickHouse of a configuration: the one that is named; else that of the process
 * that has the data directory, which says where it is; else the embedded one, started for the command, which has the data
 * directory as long as it lasts.
 */

/** Log lines of a command: to standard error, so that standard output is the answer alone. */
export function commandLog(config: Config): Logger {
  const destination = { write: (line: string) => void process.stderr.write(line) };
  return createLogger({ level: config.logLevel, thread: 'main', destination });
}

type Use<T> = (client: ClickHouseClient) => Promise<T>;

/** `held` is the lock of `config.dataDir` where the caller has it already. */
export async function withClickHouse<T>(config: Config, log: Logger, use: Use<T>, held?: DataDirLock): Promise<T> {
  const { clickhouseUrl: url, clickhousePassword: password, dataDir } = config;
  if (url !== undefined) return withClient(config, url, password ?? '', use);
  if (held !== undefined) return withEmbedded(config, log, held, use);
  const running = await runningClickHouse(dataDir);
  if (running !== undefined) {
    const secret = password ?? (running.embedded ? await keptPassword(dataDir) : '');
    return withClient(config, running.url, secret, use);
  }
  const lock = await DataDirLock.acquire(dataDir);
  try {
    return await withEmbedded(config, log, lock, use);
  } finally {
    lock.release();
  }
}

/** Throws where the tables are missing, or a confirmed INSERT would not be on disk. */
export async function requireSchema(client: ClickHouseClient, database: string): Promise<void> {
  const faults = await checkSchema(client, database);
  if (faults.length > 0) throw new Error(`the table events is not as it must be: ${faults.join('; ')}`);
}

/** As a start of the service would. */
export async function bringSchema(client: ClickHouseClient, database: string, log: Logger): Promise<void> {
  await migrateUp(client, database, log);
  await requireSchema(client, database);
}

const START_WAIT_MS = 60_000;
const START_POLL_MS = 100;

/** The ClickHouse of the process that has the directory; one that is just starting is waited for. */
async function runningClickHouse(dataDir: string): Promise<{ url: string; embedded: boolean } | undefined> {
  for (let waitedMs = 0; ; waitedMs += START_POLL_MS) {
    const holder = await DataDirLock.holder(dataDir);
    if (holder === undefined) return undefined;
    if (holder.clickhouse !== undefined) return holder.clickhouse;
    if (waitedMs >= START_WAIT_MS) {
      throw new Error(
        `the process ${holder.pid} has the data directory ${dataDir} and does not say which ClickHouse it uses: ` +
          'name it in PENSTOCK_CLICKHOUSE_URL',
      );
    }
    if (waitedMs === 0)
      process.stderr.write(`waiting for the ClickHouse of process ${holder.pid}, which is starting\n`);
    await sleep(START_POLL_MS);
  }
}

async function withEmbedded<T>(config: Config, log: Logger, lock: DataDirLock, use: Use<T>): Promise<T> {
  // Loaded here only: with a URL, neither the library nor its binding need be installed.
  const { startEmbedded } = await import('../shared/clickhouse/embedded/launcher.js');
  const { dataDir, clickhouseUser: user, clickhousePassword: password, clickhouseDatabase: database } = config;
  const server = await startEmbedded({ dataDir, user, password, database, log });
  try {
    lock.announce({ url: server.url, embedded: true });
    return await withClient(config, server.url, server.password, use);
  } finally {
    await server.stop();
  }
}

async function withClient<T>(config: Config, url: string, password: string, use: Use<T>): Promise<T> {
  const client = createClickHouse({
    url,
    user: config.clickhouseUser,
    password,
    requestTimeoutMs: config.clickhouseTimeoutMs,
    maxOpenConnections: 2,
  });
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

/** What the launcher made and keeps where the operator has set none. */
async function keptPassword(dataDir: string): Promise<string> {
  const file = path.join(dataDir, 'clickhouse', 'password');
  try {
    return (await readFile(file, 'utf8')).trimEnd();
  } catch (error) {
    throw new Error(
      `the running instance has a password of its own: set PENSTOCK_CLICKHOUSE_PASSWORD (or let this user read ${file})`,
      {
        cause: error,
      },
    );
  }
}
