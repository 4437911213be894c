import type { ClickHouseClient } from '@clickhouse/client';

/**
 * Compares every cell of the rollup with the raw rows (FINAL), and the other way round: level, event name, channel, bucket,
 * total, users, and for minutes the entries. Days with open exceptions must not be there. An empty list: all is well.
 */
/** Cells of minutes whose entries are not the seconds and users of their events. */
async function entryFaults(client: ClickHouseClient, database: string): Promise<unknown[]> {
  const current = `SELECT event_name AS name, day, max(generation) AS generation FROM ${database}.rollup_exceptions GROUP BY ALL`;
  const found = `SELECT event_name::String AS name, channel::String AS ch, bucket, arraySort(groupArrayArray(entries)) AS entries
    FROM ${database}.rollup LEFT JOIN (${current}) AS c ON c.name = event_name AND c.day = intDiv(bucket, 1440)
    WHERE level = 1 AND rollup.generation = c.generation GROUP BY ALL HAVING notEmpty(entries)`;
  const expected = `SELECT event_name AS name, channel::String AS ch, toUInt32(intDiv(ms, 60000)) AS bucket,
      arraySort(groupArray(bitOr(bitShiftLeft(toUInt64(intDiv(ms % 60000, 1000)), 32), toUInt64(uid)))) AS entries
    FROM (SELECT event_name, channel, sipHash128(user_id) AS hash, toUnixTimestamp64Milli(ts) AS ms FROM ${database}.events FINAL) AS e
    INNER JOIN ${database}.rollup_users AS u USING (hash) GROUP BY ALL`;
  const result = await client.query({
    query: `SELECT name, ch, bucket, f.entries AS found, e.entries AS expected
      FROM (${found}) AS f FULL JOIN (${expected}) AS e USING (name, ch, bucket) WHERE found != expected LIMIT 20`,
    format: 'JSONCompactEachRow',
  });
  return result.json<unknown[]>();
}

const NO_DAY = 4_294_967_295;

export async function rollupFaults(client: ClickHouseClient, database: string): Promise<string[]> {
  const cells = [
    [1, 'event_name', 'channel', 60_000],
    ...[2, 3, 4].flatMap((level) =>
      ['event_name', `''`].flatMap((name) =>
        ['channel', `''`].map(
          (channel) => [level, name, channel, [0, 0, 3_600_000, 86_400_000, 432_000_000][level]] as const,
        ),
      ),
    ),
  ];
  const spread = cells
    .map(([level, name, channel, ms]) => `(${level}, ${name}::String, ${channel}::String, toUInt32(intDiv(ms, ${ms})))`)
    .join(', ');
  const expected = `SELECT cell.1 AS level, cell.2 AS name, cell.3 AS ch, cell.4 AS bucket, toInt64(count()) AS total, toInt64(uniqExact(user_id)) AS users
    FROM (SELECT event_name, channel, user_id, toUnixTimestamp64Milli(ts) AS ms FROM ${database}.events FINAL)
    ARRAY JOIN [${spread}] AS cell GROUP BY ALL`;
  const day = `multiIf(level = 1, intDiv(bucket, 1440), level = 2, intDiv(bucket, 24), level = 3, bucket, ${NO_DAY})`;
  // Cells of five days are not read where one of the days was rebuilt.
  const spoilt = `SELECT event_name, intDiv(day, 5) FROM ${database}.rollup_exceptions`;
  const current = `SELECT event_name AS name, day, max(generation) AS generation FROM ${database}.rollup_exceptions GROUP BY ALL`;
  const found = `SELECT level, event_name::String AS name, channel::String AS ch, bucket, sum(total) AS total,
      toInt64(groupBitmapMerge(users)) AS users
    FROM ${database}.rollup LEFT JOIN (${current}) AS c ON c.name = event_name AND c.day = ${day}
    WHERE level BETWEEN 1 AND 4 AND rollup.generation = c.generation GROUP BY ALL HAVING total != 0`;
  const result = await client.query({
    query: `SELECT * FROM (
        SELECT level, name, ch, bucket, f.total AS found, e.total AS expected, f.users AS found_users, e.users AS expected_users
        FROM (${found}) AS f FULL JOIN (${expected}) AS e USING (level, name, ch, bucket)
      ) WHERE (found != expected OR found_users != expected_users) AND NOT (level = 4 AND (name, bucket) IN (${spoilt})) LIMIT 20`,
    format: 'JSONCompactEachRow',
  });
  const rows = await result.json<unknown[]>();
  return [...rows, ...(await entryFaults(client, database))].map((row) => JSON.stringify(row));
}
