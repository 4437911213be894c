import { createHash } from 'node:crypto';
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
  /** ClickHouse does not take this batch whole: what can be stored of it was stored in parts, the rest is a dead letter each. */
  | 'refused';

/** All states of all batches are noted in one step, or none. */
export async function writeLedger(
  client: ClickHouseClient,
  database: string,
  states: readonly LedgerState[],
  batches: readonly Batch[],
  signal: AbortSignal,
): Promise<void> {
  await client.insert({
    table: tableName(database, 'segments'),
    format: 'JSONEachRow',
    abort_signal: signal,
    values: states.flatMap((state) =>
      batches.map((batch) => ({
        token: batch.token,
        state,
        epoch: String(batch.epoch),
        ranges: batch.ranges.map(({ first, rows }) => [String(first), rows]),
        rows: batch.rows,
        bytes: batch.bytes,
        hours: batch.hours ?? [],
        hours_known: batch.hours !== undefined,
        received_from: unixSeconds(batch.receivedFromUs),
        received_to: unixSeconds(batch.receivedToUs),
      })),
    ),
    clickhouse_settings: {
      // A repetition adds nothing that the first has not said.
      insert_deduplication_token: `${tokenOf(batches)}:${states.join('+')}`,
      insert_deduplicate: 1,
      async_insert: 0,
      wait_end_of_query: 1,
    },
  });
}

/** As ClickHouse reads a DateTime64(6). */
function unixSeconds(us: number): string {
  return `${Math.floor(us / 1e6)}.${String(us % 1e6).padStart(6, '0')}`;
}

function tokenOf(batches: readonly Batch[]): string {
  const [only] = batches;
  if (batches.length === 1 && only !== undefined) return only.token;
  const hash = createHash('sha256');
  for (const { token } of batches) hash.update(token);
  return hash.digest('hex');
}
