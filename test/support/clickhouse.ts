import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClickHouseClient } from '@clickhouse/client';
import { pino } from 'pino';
import { createClickHouse } from '../../src/shared/clickhouse/client.js';
import { startEmbedded } from '../../src/shared/clickhouse/embedded/launcher.js';
import { migrateUp } from '../../src/shared/clickhouse/migrations.js';

/**
 * A ClickHouse of its own for one test file: a real server on a temporary directory, gone with `stop()`.
 * Tests that must not see each other's rows take a database each.
 */
export interface TestClickHouse {
  readonly url: string;
  readonly user: string;
  readonly password: string;
  readonly pid: number;
  readonly client: ClickHouseClient;
  /** A new database with the schema in it; its name. */
  newDatabase(): Promise<string>;
  /** A name that no database has. */
  unusedDatabase(): string;
  stop(): Promise<void>;
}

/** Fatal lines only: a test that provokes an error would otherwise fill the report with it. */
export const silentLog = pino({ level: 'silent' });

export async function startTestClickHouse(): Promise<TestClickHouse> {
  const directory = await mkdtemp(join(tmpdir(), 'penstock-test-'));
  const server = await startEmbedded({
    dataDir: directory,
    user: 'penstock',
    password: randomBytes(12).toString('hex'),
    database: 'penstock',
    log: silentLog,
  }).catch(async (error: unknown) => {
    await rm(directory, { recursive: true, force: true });
    throw error;
  });
  const { url, user, password, pid } = server;
  if (pid === undefined) throw new Error('the embedded ClickHouse is gone already');
  const client = createClickHouse({ url, user, password, requestTimeoutMs: 30_000, maxOpenConnections: 8 });
  const unusedDatabase = (): string => `test_${randomBytes(6).toString('hex')}`;
  return {
    url,
    user,
    password,
    pid,
    client,
    unusedDatabase,
    async newDatabase() {
      const database = unusedDatabase();
      await migrateUp(client, database, silentLog);
      return database;
    },
    async stop() {
      await client.close();
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Waits until `condition` holds; fails with `what` after `deadlineMs`. */
export async function eventually(
  what: string,
  condition: () => Promise<boolean> | boolean,
  deadlineMs = 10_000,
): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
