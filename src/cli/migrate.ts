import type { ClickHouseClient } from '@clickhouse/client';
import { migrateDown, migrateUp, type MigrationStatus, migrationStatus } from '../shared/clickhouse/migrations.js';
import type { Config } from '../shared/config.js';
import type { Logger } from '../shared/log.js';
import { DataDirLock } from '../main/data-dir-lock.js';
import { commandLog, withClickHouse } from './clickhouse-access.js';
import type { MigrateAction } from './program.js';

/**
 * `penstock migrate`: the schema of the database that the configuration names, wherever it is. Log lines go to standard
 * error, so that standard output is the answer alone. `down` drops tables with what is in them: that of an embedded
 * ClickHouse is refused while an instance runs on it, which would go on writing to them.
 */
export async function migrate(action: MigrateAction, config: Config): Promise<void> {
  const log = commandLog(config);
  if (action === 'down' && config.clickhouseUrl === undefined) await refuseWhileRunning(config.dataDir);
  await withClickHouse(config, log, async (client) => {
    const status = await run(action, client, config.clickhouseDatabase, log);
    process.stdout.write(formatStatus(config.clickhouseDatabase, status));
  });
}

async function refuseWhileRunning(dataDir: string): Promise<void> {
  const holder = await DataDirLock.holder(dataDir);
  if (holder === undefined) return;
  throw new Error(
    `the process ${holder.pid} runs on the data directory ${dataDir}: stop it before its tables are dropped`,
  );
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

/** `penstock: version 1 of 2`, then a line for each version. */
export function formatStatus(database: string, { current, latest, versions }: MigrationStatus): string {
  const width = Math.max(0, ...versions.map(({ name }) => name.length));
  const lines = versions.map(
    ({ version, name, appliedAt }) =>
      `${String(version).padStart(4)}  ${name.padEnd(width)}  ${appliedAt === undefined ? 'not applied' : `applied ${appliedAt}`}`,
  );
  return [`${database}: version ${current} of ${latest}`, ...lines, ''].join('\n');
}
