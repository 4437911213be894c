import type { ClickHouseClient } from '@clickhouse/client';

/**
 * The ledger, held to its arithmetic by SQL of the tests' own: every completion has its intent, and the completed ranges of an
 * epoch follow each other from 0 without a gap or an overlap. What was completed twice under one token is one thing. Rows
 * that went to the dead-letter store are gaps by right: `dead` says how many there may be.
 */
export async function ledgerFaults(client: ClickHouseClient, database: string, dead = 0): Promise<string[]> {
  const faults: string[] = [];
  const rows = await select<{ token: string; states: string[] }>(
    client,
    `SELECT token, groupUniqArray(toString(state)) AS states FROM ${database}.segments GROUP BY token, epoch
     HAVING NOT has(states, 'intent')`,
  );
  for (const { token, states } of rows) faults.push(`ledger: batch ${token} has ${states.join(', ')} and no intent`);
  const ranges = await select<{ epoch: string; first: string; rows: number }>(
    client,
    `SELECT DISTINCT toString(epoch) AS epoch, toString(range.1) AS first, range.2 AS rows, token
     FROM ${database}.segments ARRAY JOIN ranges AS range WHERE state = 'completion' ORDER BY segments.epoch, range.1`,
  );
  let missing = 0;
  let at = { epoch: '', next: 0 };
  for (const { epoch, first, rows: count } of ranges) {
    if (at.epoch !== epoch) at = { epoch, next: 0 };
    const from = Number(first);
    if (from < at.next) faults.push(`ledger: epoch ${epoch} has ${from} twice, up to ${at.next}`);
    missing += Math.max(0, from - at.next);
    at.next = Math.max(at.next, from + count);
  }
  if (missing !== dead)
    faults.push(`ledger: ${missing} sequence numbers lie between completed ranges, ${dead} were expected`);
  return faults;
}

async function select<T>(client: ClickHouseClient, query: string): Promise<T[]> {
  const result = await client.query({ query, format: 'JSONEachRow' });
  return result.json<T>();
}
