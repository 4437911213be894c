import { createHash, type Hash } from 'node:crypto';
import fs from 'node:fs';
import { finished } from 'node:stream/promises';
import { Readable } from 'node:stream';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../shared/clickhouse/client.js';
import { EVENT_COLUMNS } from '../../shared/event-columns.js';
import type { FrameRef } from './wal/segment-reader.js';

/** One segment as one INSERT of one block under one token. */

/** Read from the file and handed to the socket in pieces of this size. */
const CHUNK_BYTES = 256 * 1024;

/** The token of a segment: a hash of its row bytes, so that equal bytes have equal tokens and nothing need be remembered. */
export class TokenHash {
  readonly #hash: Hash = createHash('sha256');

  update(rows: Uint8Array): void {
    this.#hash.update(rows);
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

export interface SegmentRows {
  readonly file: string;
  readonly frames: readonly FrameRef[];
  readonly rows: number;
  readonly bytes: number;
  readonly token: string;
}

/**
 * Sends a segment's rows. Resolves when ClickHouse has confirmed them; the table syncs its parts, so they are then durable
 * there (checked at start). The token holds for a block only: the settings make the segment one.
 */
export async function insertSegment(
  client: ClickHouseClient,
  database: string,
  segment: SegmentRows,
  signal: AbortSignal,
): Promise<void> {
  const values = Readable.from(readRows(segment), { objectMode: false });
  try {
    const result = await client.exec({
      query: `INSERT INTO ${tableName(database, 'events')} (${EVENT_COLUMNS.join(', ')}) FORMAT RowBinary`,
      values,
      abort_signal: signal,
      clickhouse_settings: {
        insert_deduplication_token: segment.token,
        insert_deduplicate: 1,
        max_insert_block_size: String(segment.rows + 1),
        min_insert_block_size_rows: String(segment.rows + 1),
        min_insert_block_size_bytes: String(segment.bytes * 16 + 1024 * 1024 * 1024),
        max_insert_threads: '1',
        input_format_parallel_parsing: 0,
        async_insert: 0,
        wait_end_of_query: 1,
        optimize_on_insert: 0,
        // A segment may hold events of any month since 2020, and of all time before.
        max_partitions_per_insert_block: '0',
      },
    });
    // The confirmation is the end of the answer, not its head.
    await finished(result.stream.resume());
  } finally {
    values.destroy();
  }
}

async function* readRows(segment: SegmentRows): AsyncGenerator<Buffer> {
  const handle = await fs.promises.open(segment.file, 'r');
  try {
    for (const frame of segment.frames) {
      const end = frame.payloadOffset + frame.length;
      for (let at = frame.payloadOffset; at < end;) {
        const length = Math.min(CHUNK_BYTES, end - at);
        const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(length), 0, length, at);
        if (bytesRead === 0) throw new Error(`${segment.file} ended at byte ${at}, inside a frame that was intact`);
        yield buffer.subarray(0, bytesRead);
        at += bytesRead;
      }
    }
  } finally {
    await handle.close();
  }
}
