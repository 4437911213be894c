import { randomUUID } from 'node:crypto';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../src/shared/clickhouse/client.js';
import { Counters, createCounters } from '../../src/shared/counters.js';
import { Roller } from '../../src/workers/roller/roller.js';
import type { RollerLimits } from '../../src/workers/roller/roller-limits.js';
import { silentLog } from './clickhouse.js';
import type { EventRow } from './metrics-model.js';
import { insertRows } from './metrics-server.js';

/** A roller without a process around it, and rows for it. */

export interface TestRoller {
  readonly roller: Roller;
  readonly counters: Counters;
  /** Tokens of batches that it said were rolled. */
  readonly rolled: string[];
}

export function newRoller(
  client: ClickHouseClient,
  database: string,
  limits: Partial<RollerLimits> = { leaveToOthersMs: 0 },
): TestRoller {
  const counters = new Counters(createCounters());
  const rolled: string[] = [];
  const roller = new Roller({
    client,
    database,
    counters,
    log: silentLog,
    signal: new AbortController().signal,
    onRolled: (tokens) => rolled.push(...tokens),
    onCaughtUp: () => undefined,
    keptFromMs: () => 0,
    limits,
  });
  return { roller, counters, rolled };
}

/** Until there is nothing to do; a look at the ledger is at most a second away. */
export async function settle({ roller }: TestRoller, onStep?: () => void): Promise<void> {
  for (let idle = 0; idle < 2;) {
    idle = (await roller.step()) ? 0 : idle + 1;
    onStep?.();
  }
}

export type Batch = Parameters<Roller['offer']>[0];

/** Of these rows. */
export function batchOf(rows: readonly EventRow[]): Batch {
  const received = rows.map((row) => row.received_at);
  return {
    token: randomUUID(),
    rows: rows.length,
    receivedFromUs: Math.min(...received),
    receivedToUs: Math.max(...received),
  };
}

/** As the shipper does it: the rows, then their completion in the ledger. */
export async function ship(
  client: ClickHouseClient,
  database: string,
  rows: readonly EventRow[],
  state = 'completion',
): Promise<Batch> {
  const batch = batchOf(rows);
  await insertRows(client, database, rows);
  await note(client, database, batch, state);
  return batch;
}

export async function note(
  client: ClickHouseClient,
  database: string,
  batch: Batch,
  state: string,
  agoSeconds = 0,
): Promise<void> {
  await client.insert({
    table: tableName(database, 'segments'),
    format: 'JSONEachRow',
    values: [
      {
        token: batch.token,
        state,
        rows: batch.rows,
        received_from: (batch.receivedFromUs / 1e6).toFixed(6),
        received_to: (batch.receivedToUs / 1e6).toFixed(6),
        at: (Date.now() / 1000 - agoSeconds).toFixed(6),
      },
    ],
  });
}

/** A clock for `received_at` that the events of a test share, Unix µs. */
export const receiving = { us: Date.now() * 1000 };

export function event(fields: Partial<EventRow> = {}): EventRow {
  receiving.us += 1_000;
  return {
    event_id: randomUUID(),
    event_name: 'view',
    channel: 'web',
    user_id: 'anna',
    ts: Date.now() - 5_000,
    received_at: receiving.us,
    ...fields,
  };
}

/** The same event, received again. */
export function again(row: EventRow, fields: Partial<EventRow> = {}): EventRow {
  receiving.us += 1_000;
  return { ...row, received_at: receiving.us, ...fields };
}

/** What a query of one number answers. */
export async function numberFrom(client: ClickHouseClient, query: string): Promise<number> {
  const result = await client.query({ query, format: 'JSONCompactEachRow' });
  const [row] = await result.json<[string]>();
  return Number(row?.[0]);
}
