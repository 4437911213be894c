import type { ClickHouseClient } from '@clickhouse/client';
import { createClickHouse } from '../shared/clickhouse/client.js';
import { migrateDown, migrateUp, type MigrationStatus, migrationStatus } from '../shared/clickhouse/migrations.js';
import type { Config } from '../shared/config.js';
import { createLogger, type Logger } from '../shared/log.js';
import type { MigrateAction } from './program.js';

/**
 * `penstock migrate`: the schema of the database that the configuration names, wherever it is. Log lines go to standard
 * error, so that standard output is the answer alone. Where the embedded ClickHouse is meant it is started for the purpose:
 * it is refused while an instance runs on the same data directory, whose start has migrated it anyway.
 */
export async function migrate(action: MigrateAction, config: Config): Promise<void> {
  const destination = { write: (line: string) => void process.stderr.write(line) };
  const log = createLogger({ level: config.logLevel, thread: 'main', destination });
  await withClickHouse(config, log, async (client) => {
    const status = await run(action, client, config.clickhouseDatabase, log);
    process.stdout.write(formatStatus(config.clickhouseDatabase, status));
  });
}

function run(action: MigrateAction, client: ClickHouseClient, database: string, log: Logger): Promise<MigrationStatus> {
  switch (action) {
    case 'up':
      return migrateUp(client, database, log);
    case 'down':
      return migrateDown(client, database, log);
    case 'status':
      return migrationStatus(client, database);
  }
}

async function withClickHouse(
  config: Config,
  log: Logger,
  use: (client: ClickHouseClient) => Promise<void>,
): Promise<void> {
  const { clickhouseUrl, clickhouseUser, clickhousePassword, clickhouseTimeoutMs, clickhouseDatabase } = config;
  if (clickhouseUrl !== undefined) {
    await withClient({ url: clickhouseUrl, user: clickhouseUser, password: clickhousePassword ?? '' });
    return;
  }
  const { startEmbedded } = await import('../shared/clickhouse/embedded/launcher.js');
  const server = await startEmbedded({
    dataDir: config.dataDir,
    user: clickhouseUser,
    password: clickhousePassword,
    database: clickhouseDatabase,
    log,
  });
  try {
    await withClient(server);
  } finally {
    await server.stop();
  }

  async function withClient(target: { url: string; user: string; password: string }): Promise<void> {
    const { url, user, password } = target;
    const client = createClickHouse({
      url,
      user,
      password,
      requestTimeoutMs: clickhouseTimeoutMs,
      maxOpenConnections: 1,
    });
    try {
      await use(client);
    } finally {
      await client.close();
    }
  }
}

/** `penstock: version 1 of 2`, then a line for each version. */
export function formatStatus(database: string, { current, latest, versions }: MigrationStatus): string {
  const width = Math.max(0, ...versions.map(({ name }) => name.length));
  const lines = versions.map(
    ({ version, name, appliedAt }) =>
      `${String(version).padStart(4)}  ${name.padEnd(width)}  ${appliedAt === undefined ? 'not applied' : `applied ${appliedAt}`}`,
  );
  return [`${database}: version ${current} of ${latest}`, ...lines, ''].join('\n');
}
