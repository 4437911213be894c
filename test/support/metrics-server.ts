import type { ClickHouseClient } from '@clickhouse/client';
import { App, us_socket_local_port } from 'uWebSockets.js';
import { AnswerTally } from '../../src/main/answer-tally.js';
import { metricsHandler } from '../../src/main/routes/metrics.js';
import { tableName } from '../../src/shared/clickhouse/client.js';
import type { TestCells } from './cells.js';
import { silentLog } from './clickhouse.js';
import type { EventRow, GroupCount } from './metrics-model.js';

/** What an answer may have in it, good or bad. */
export interface Answer {
  readonly event_name?: string;
  readonly from?: number;
  readonly to?: number;
  readonly grouped_by?: string;
  readonly data?: readonly GroupCount[];
  readonly next_cursor?: string | null;
  readonly total_events?: number;
  readonly unique_users?: number;
  readonly as_of?: number;
  readonly error?: string;
  readonly code?: string;
}

export interface Response {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Answer;
}

/** The metrics route alone, on a port of its own. */
export interface MetricsServer {
  readonly port: number;
  /** How its questions were answered. */
  readonly tally: AnswerTally;
  get(parameters: Readonly<Record<string, string>>): Promise<Response>;
  close(): void;
}

export interface MetricsServerOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly timeoutMs?: number;
  readonly concurrency?: number;
  readonly rollups?: () => 'ready' | 'behind';
  readonly asOfShipped?: () => number;
  readonly asOfRolled?: () => number;
  readonly retentionDays?: number;
  readonly cells?: Pick<TestCells, 'ask' | 'takeBack'>;
}

export function serveMetrics(options: MetricsServerOptions): MetricsServer {
  const app = App();
  const now = (): number => Date.now() / 1000;
  const tally = new AnswerTally();
  const defaults = {
    timeoutMs: 20_000,
    concurrency: 4,
    rollups: () => 'behind' as const,
    asOfShipped: now,
    asOfRolled: now,
    tally,
    log: silentLog,
  };
  app.any('/metrics', metricsHandler({ ...defaults, ...options }));
  let port = 0;
  app.listen('127.0.0.1', 0, (socket) => {
    if (socket) port = us_socket_local_port(socket);
  });
  if (port === 0) throw new Error('cannot listen');
  return {
    port,
    tally,
    async get(parameters) {
      const response = await fetch(`http://127.0.0.1:${port}/metrics?${new URLSearchParams(parameters).toString()}`);
      const text = await response.text();
      return { status: response.status, headers: response.headers, text, body: JSON.parse(text) as Answer };
    },
    close: () => {
      app.close();
    },
  };
}

/** Inserts rows as the shipper does: one block, duplicates inside it kept. */
export async function insertRows(client: ClickHouseClient, database: string, rows: readonly EventRow[]): Promise<void> {
  await client.insert({
    table: tableName(database, 'events'),
    columns: ['event_id', 'event_name', 'channel', 'user_id', 'ts', 'received_at'],
    values: rows.map((row) => [
      row.event_id,
      row.event_name,
      row.channel,
      row.user_id,
      new Date(row.ts).toISOString().slice(0, 23).replace('T', ' '),
      (row.received_at / 1e6).toFixed(6),
    ]),
    format: 'JSONCompactEachRow',
    clickhouse_settings: { async_insert: 0, optimize_on_insert: 0 },
  });
}
