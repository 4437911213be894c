import fs from 'node:fs';
import path from 'node:path';
import type { Producer, Range } from './producer.js';
import { Service } from './service.js';

/** A port that refuses connections: 1 is reserved and needs privileges. */
const NO_CLICKHOUSE = 'http://127.0.0.1:1';

/**
 * Fills the log of a data directory: ClickHouse is away while `work` is sent, so that all of it stays there, and the
 * service ends by kill -9.
 */
export async function backlog(
  dataDir: string,
  producer: Producer,
  work: { readonly singles: Range; readonly bulk: Range },
): Promise<{ readonly logBytes: number }> {
  const service = await Service.start({ dataDir, env: { PENSTOCK_CLICKHOUSE_URL: NO_CLICKHOUSE } });
  try {
    producer.url = service.url;
    await producer.run(work);
  } finally {
    await service.kill();
    producer.url = undefined;
  }
  const directory = path.join(dataDir, 'wal');
  const logBytes = fs
    .readdirSync(directory)
    .reduce((sum, name) => sum + fs.statSync(path.join(directory, name)).size, 0);
  return { logBytes };
}
