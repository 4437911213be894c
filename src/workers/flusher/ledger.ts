import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import type { Batch } from './batch.js';

/**
 * The ledger: what was sent to ClickHouse, in ClickHouse itself. A row of intent before an INSERT, one of completion behind
 * it. An intent without a completion says that its rows may be there in part; a completion, that all of them are.
 */
export type LedgerState =
  | 'intent'
  | 'completion'
  /** This batch will never complete: its rows go on in smaller batches, or one by one to the dead-letter store. */
  | 'refused';

export async function writeLedger(
  client: ClickHouseClient,
  database: string,
  state: LedgerState,
  batch: Batch,
  signal: AbortSignal,
): Promise<void> {
  await client.insert({
    table: tableName(database, 'segments'),
    format: 'JSONEachRow',
    abort_signal: signal,
    values: [
      {
        token: batch.token,
        state,
        epoch: String(batch.epoch),
        ranges: batch.ranges.map(({ first, rows }) => [String(first), rows]),
        rows: batch.rows,
        bytes: batch.bytes,
        hours: batch.hours ?? [],
        hours_known: batch.hours !== undefined,
      },
    ],
    clickhouse_settings: {
      // A repetition adds nothing that the first has not said.
      insert_deduplication_token: `${batch.token}:${state}`,
      insert_deduplicate: 1,
      async_insert: 0,
      wait_end_of_query: 1,
    },
  });
}
