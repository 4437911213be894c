import type { ClickHouseClient } from '@clickhouse/client';
import { deleteForgotten } from '../../shared/clickhouse/forget.js';
import { deleteExpired } from '../../shared/clickhouse/retention.js';
import { monotonicMs } from '../../shared/clock.js';
import type { Logger } from '../../shared/log.js';
import { retentionEdgeDay } from '../../shared/retention.js';

/** Once an hour: days that are not kept any more, and rows of forgotten users that came once more. */
export interface HousekeepingOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly retentionDays: number | undefined;
  readonly log: Logger;
}

const EVERY_MS = 3_600_000;

export class Housekeeping {
  readonly #options: HousekeepingOptions;
  #dueAt = -Infinity;
  #lastRun: Date | undefined;

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  /** Rejects where ClickHouse does not do it; then it is due at the next call. */
  async whenDue(): Promise<void> {
    if (monotonicMs() < this.#dueAt) return;
    const { client, database, retentionDays, log } = this.#options;
    const began = new Date();
    const edgeDay = retentionEdgeDay(retentionDays, began.getTime());
    if (edgeDay !== undefined) {
      const expired = await deleteExpired(client, database, edgeDay);
      if (expired.droppedPartitions.length + expired.deletedFrom.length > 0)
        log.info(expired, 'deleted what is not kept any more');
    }
    await deleteForgotten(client, database, this.#lastRun);
    this.#lastRun = began;
    this.#dueAt = monotonicMs() + EVERY_MS;
  }
}
