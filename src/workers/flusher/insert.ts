import { finished } from 'node:stream/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { EVENT_COLUMNS } from '../../shared/event-columns.js';
import type { Batch } from './batch.js';
import { PieceBuffers, PieceStream } from './piece-stream.js';

/**
 * Sends a batch as one INSERT of one block under one token. Resolves when ClickHouse has confirmed it; the table syncs its
 * parts, so the rows are then durable there (checked at start). The token holds for a block only: the settings make the
 * batch one. `buffers`: from the caller's earlier INSERTs.
 */
export async function insertBatch(
  client: ClickHouseClient,
  database: string,
  batch: Batch,
  signal: AbortSignal,
  buffers = new PieceBuffers(),
): Promise<void> {
  const values = new PieceStream(batch.read, buffers);
  try {
    const result = await client.exec({
      query: `INSERT INTO ${tableName(database, 'events')} (${EVENT_COLUMNS.join(', ')}) FORMAT RowBinary`,
      values,
      abort_signal: signal,
      clickhouse_settings: {
        insert_deduplication_token: batch.token,
        insert_deduplicate: 1,
        max_insert_block_size: String(batch.rows + 1),
        min_insert_block_size_rows: String(batch.rows + 1),
        min_insert_block_size_bytes: String(batch.bytes * 16 + 1024 * 1024 * 1024),
        max_insert_threads: '1',
        input_format_parallel_parsing: 0,
        async_insert: 0,
        wait_end_of_query: 1,
        optimize_on_insert: 0,
        // A segment may hold events of any time: one partition a month from 2026 on, fewer before (schema.sql).
        max_partitions_per_insert_block: '0',
      },
    });
    // The confirmation is the end of the answer, not its head.
    await finished(result.stream.resume());
    values.confirmed();
  } finally {
    values.destroy();
  }
}
