import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { tableName } from '../../src/shared/clickhouse/client.js';
import { deleteExpired } from '../../src/shared/clickhouse/retention.js';
import { retentionEdgeDay } from '../../src/shared/retention.js';
import { eventually, startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { externally } from '../support/faults/fault-run.js';
import type { EventRow } from '../support/metrics-model.js';
import { insertRows, serveMetrics } from '../support/metrics-server.js';
import { assertAccepted, assertRefused, event, metrics, postBulk, postEvent } from '../support/requests.js';
import { assertRollupAnswers, questionsAbout, settledInRollups } from '../support/rollup-answers.js';
import { rollupFaults } from '../support/rollup-check.js';
import { removeDirectory, Service, temporaryDirectory } from '../support/service.js';

/** What is older than retention keeps: deleted together, not counted before that, refused. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(async () => {
  await clickhouse.stop();
});

async function run(query: string): Promise<void> {
  await clickhouse.client.command({ query, clickhouse_settings: { wait_end_of_query: 1, async_insert: 0 } });
}

async function ask(query: string): Promise<(string | number)[][]> {
  const result = await clickhouse.client.query({
    query,
    format: 'JSONCompactEachRow',
    clickhouse_settings: { output_format_json_quote_64bit_integers: 0 },
  });
  return result.json();
}

const dayOf = (date: string): number => Date.parse(date) / 86_400_000;

/** One event an hour of these days, and all that a roller keeps of them. */
async function fill(database: string, days: readonly number[]): Promise<void> {
  const t = (name: string): string => tableName(database, name);
  const hours = `(SELECT arrayJoin([${days.join()}]) AS day, arrayJoin(range(24)) AS hour)`;
  await run(
    `INSERT INTO ${t('events')} (event_id, event_name, channel, user_id, ts, received_at)
     SELECT generateUUIDv4(), 'view', 'web', toString(hour), toDateTime64(day * 86400 + hour * 3600, 3, 'UTC'), now64(6) FROM ${hours}`,
  );
  const users = `(SELECT groupBitmapState(toUInt32(1)))`;
  await run(
    `INSERT INTO ${t('rollup')} (level, event_name, channel, bucket, total, users)
     SELECT level, 'view', 'web', multiIf(level = 1, day * 1440 + hour * 60, level = 2, day * 24 + hour, day), 1, ${users}
     FROM ${hours} ARRAY JOIN [1, 2, 3] AS level`,
  );
  await run(`INSERT INTO ${t('rollup')} (level, commits) SELECT 0, 7`);
  await run(
    `INSERT INTO ${t('rollup_identities')} SELECT bitShiftLeft(toUInt64(day * 1440 + hour * 60), 32) + 5 FROM ${hours}`,
  );
  await run(
    `INSERT INTO ${t('rollup_exceptions')} (event_name, day, request, reason) SELECT DISTINCT 'view', day, 1, 'test' FROM ${hours}`,
  );
  await run(
    `INSERT INTO ${t('rollup_exceptions')} (event_name, day, request, reason) SELECT '', 4294967295, 2, 'names'`,
  );
}

/** Days that each table has something of. */
async function left(database: string): Promise<Record<string, unknown>> {
  const t = (name: string): string => tableName(database, name);
  const days = async (query: string): Promise<unknown> => (await ask(query)).map(([day, count]) => `${day}: ${count}`);
  return {
    events: await days(`SELECT toDate(ts, 'UTC') AS d, count() FROM ${t('events')} FINAL GROUP BY d ORDER BY d`),
    rollup: await days(
      `SELECT toDate(toUInt16(intDiv(bucket, multiIf(level = 1, 1440, level = 2, 24, 1)))) AS d, sum(total) FROM ${t('rollup')}
       WHERE level > 0 GROUP BY d ORDER BY d`,
    ),
    identities: await days(
      `SELECT toDate(toUInt16(intDiv(bitShiftRight(key, 32), 1440))) AS d, count() FROM ${t('rollup_identities')} GROUP BY d ORDER BY d`,
    ),
    exceptions: await days(`SELECT day AS d, count() FROM ${t('rollup_exceptions')} GROUP BY d ORDER BY d`),
    commits: await days(`SELECT max(commits), count() > 0 FROM ${t('rollup')} WHERE level = 0`),
  };
}

function kept(dates: readonly string[]): Record<string, unknown> {
  return {
    events: dates.map((date) => `${date}: 24`),
    rollup: dates.map((date) => `${date}: 72`),
    identities: dates.map((date) => `${date}: 24`),
    exceptions: [...dates.map((date) => `${dayOf(date)}: 1`), '4294967295: 1'],
    commits: ['7: 1'],
  };
}

const DATES = [
  '2012-07-01',
  '2019-12-31',
  '2020-01-01',
  '2025-12-31',
  '2026-01-31',
  '2026-02-01',
  '2026-02-14',
  '2026-02-15',
  '2026-02-16',
];

test('raw rows and rollups of a day go together, whole partitions at once, and the rest of the edge partition by row', async () => {
  const database = await clickhouse.newDatabase();
  await fill(database, DATES.map(dayOf));
  assert.deepEqual(await left(database), kept(DATES));
  const inAll = ['events', 'rollup', 'rollup_identities', 'rollup_exceptions'];

  const none = { droppedPartitions: [], deletedFrom: [], left: [] };
  assert.deepEqual(await deleteExpired(clickhouse.client, database, dayOf('2012-07-01')), none);
  assert.deepEqual(await left(database), kept(DATES));
  // Within the partition of all that is old, within a year, on the border of years and months.
  assert.deepEqual(await deleteExpired(clickhouse.client, database, dayOf('2019-12-31')), {
    ...none,
    deletedFrom: inAll,
  });
  assert.deepEqual(await left(database), kept(DATES.slice(1)));
  assert.deepEqual(await deleteExpired(clickhouse.client, database, dayOf('2020-01-01')), {
    ...none,
    droppedPartitions: ['0'],
    deletedFrom: inAll.slice(1),
  });
  assert.deepEqual(await left(database), kept(DATES.slice(2)));
  assert.deepEqual(await deleteExpired(clickhouse.client, database, dayOf('2026-02-15')), {
    ...none,
    droppedPartitions: ['2020', '2025', '202601'],
    deletedFrom: inAll,
  });
  assert.deepEqual(await left(database), kept(DATES.slice(7)));
  assert.deepEqual(await deleteExpired(clickhouse.client, database, dayOf('2026-02-15')), none);
  assert.deepEqual(await left(database), kept(DATES.slice(7)));
});

test('several instances may delete at once while rows come in', async () => {
  const database = await clickhouse.newDatabase();
  await fill(database, DATES.map(dayOf));
  const edge = dayOf('2026-02-15');
  await Promise.all([
    ...Array.from({ length: 3 }, () => deleteExpired(clickhouse.client, database, edge)),
    run(
      `INSERT INTO ${tableName(database, 'events')} (event_id, event_name, channel, user_id, ts)
       SELECT generateUUIDv4(), 'view', 'web', 'u', toDateTime64(${(edge + 2) * 86_400} + number, 3, 'UTC') FROM numbers(24)`,
    ),
  ]);
  await deleteExpired(clickhouse.client, database, edge);
  const { events, ...others } = await left(database);
  const { events: expected, ...otherExpected } = kept(DATES.slice(7));
  assert.deepEqual(events, [...(expected as string[]), '2026-02-17: 24']);
  assert.deepEqual(others, otherExpected);
});

test("where the partitions are the operator's own, rows are deleted and no partition is dropped", async () => {
  const database = await clickhouse.newDatabase();
  const events = tableName(database, 'events');
  const own = tableName(database, 'own');
  await run(
    `CREATE TABLE ${own} AS ${events} ENGINE = ReplacingMergeTree(received_at) PARTITION BY toDayOfWeek(ts) ORDER BY (event_name, ts, event_id)`,
  );
  await run(`EXCHANGE TABLES ${events} AND ${own}`);
  await fill(database, DATES.map(dayOf));
  const { droppedPartitions } = await deleteExpired(clickhouse.client, database, dayOf('2026-02-15'));
  assert.deepEqual(droppedPartitions, []);
  assert.deepEqual(await left(database), kept(DATES.slice(7)));
});

test('what is past the edge does not count although it has not been deleted yet', async () => {
  const database = await clickhouse.newDatabase();
  const edge = retentionEdgeDay(30, Date.now()) ?? 0;
  await fill(database, [edge - 400, edge - 1, edge, edge + 1]);
  const server = serveMetrics({ client: clickhouse.client, database, retentionDays: 30 });
  try {
    const total = async (parameters: Readonly<Record<string, string>>) => {
      const { body } = await server.get({ event_name: 'view', ...parameters });
      return [body.total_events, body.unique_users, body.from, body.to];
    };
    const edgeS = edge * 86_400;
    assert.deepEqual(await total({}), [48, 24, undefined, undefined]);
    assert.deepEqual(await total({ from: '1' }), [48, 24, edgeS, undefined]);
    assert.deepEqual(await total({ from: '1', to: String(edgeS - 1) }), [0, 0, edgeS, edgeS - 1]);
    assert.deepEqual(await total({ to: String(edgeS) }), [1, 1, undefined, edgeS]);
    const pages = [];
    let cursor: string | null | undefined;
    do {
      const parameters = { event_name: '*', group_by: 'day', limit: '1', from: '5' };
      const { body } = await server.get(cursor === undefined ? parameters : { ...parameters, cursor: cursor ?? '' });
      pages.push(body.data?.map(({ group, total_events }) => [group, total_events]));
      cursor = body.next_cursor;
    } while (cursor !== null);
    const dateOf = (day: number): string => new Date(day * 86_400_000).toISOString().slice(0, 10);
    assert.deepEqual(pages, [[[dateOf(edge), 24]], [[dateOf(edge + 1), 24]]]);
  } finally {
    server.close();
  }
});

test('the service refuses what is too old with a code of its own, single and in bulk', async () => {
  const service = await Service.start({ env: { PENSTOCK_RETENTION_DAYS: '2' } });
  try {
    const edge = (retentionEdgeDay(2, Date.now()) ?? 0) * 86_400;
    assertAccepted(await postEvent(service, event({ timestamp: edge + 86_400 })));
    const refused = assertRefused(await postEvent(service, event({ timestamp: edge - 1 })), 400, 'timestamp_too_old');
    assert.equal(refused.body.details?.[0]?.path, '/timestamp');
    const bulk = await postBulk(service, {
      events: [event({ timestamp: edge + 86_401 }), event({ timestamp: 5 }), event({ user_id: '' })],
    });
    assert.equal(bulk.status, 202, bulk.text);
    assert.deepEqual(
      bulk.body.errors?.map(({ index, code }) => [index, code]),
      [
        [1, 'timestamp_too_old'],
        [2, 'validation_error'],
      ],
    );
    const page = await (await fetch(`${service.adminUrl}/metrics`)).text();
    assert.match(page, /^penstock_requests_refused_total\{code="timestamp_too_old"\} 1$/m);
    await service.settled();
    const counted = await metrics(service, { event_name: '*', from: '1' });
    assert.deepEqual([counted.body.total_events, counted.body.from], [2, edge]);
  } finally {
    await service.dispose();
  }
});

const DAY_MS = 86_400_000;

/** Three users a day, each at other times, on these days. */
function rowsOn(days: readonly number[]): EventRow[] {
  return days.flatMap((day, at) =>
    Array.from({ length: 9 }, (_, i) => ({
      event_id: randomUUID(),
      event_name: i % 2 === 0 ? 'view' : 'order',
      channel: ['web', 'mobile'][(at + i) % 2] ?? '',
      user_id: `user ${(at + i) % 3} of ${at % 5}`,
      ts: day * DAY_MS + i * 7_200_000 + at * 1_001,
      received_at: (day * DAY_MS + i) * 1000,
    })),
  );
}

for (const rolled of [true, false]) {
  const history = rolled ? 'was rolled before' : 'was never rolled';
  test(`what lies before the edge and ${history} goes with its rollups, and answers from them begin at the edge`, async () => {
    const database = await clickhouse.newDatabase();
    const t = (name: string): string => tableName(database, name);
    const env = externally({ ...clickhouse, database });
    const edge = retentionEdgeDay(30, Date.now()) ?? 0;
    const rows = rowsOn([edge - 700, edge - 40, edge - 1, edge, edge + 1, edge + 15, edge + 29]);
    const recent = rows.filter(({ ts }) => ts >= edge * DAY_MS);
    const questions = questionsAbout(['view', 'order'], 'web', [edge * 86_400 - 3_601, (edge + 15) * 86_400 + 18_007]);
    await insertRows(clickhouse.client, database, rows);
    const dataDir = temporaryDirectory();
    let service: Service | undefined;
    try {
      if (rolled) {
        service = await Service.start({ dataDir, env });
        await settledInRollups(service);
        await assertRollupAnswers(service, rows, questions);
        assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
        assert.equal(await service.stop(), 0);
      }
      service = await Service.start({ dataDir, env: { ...env, PENSTOCK_RETENTION_DAYS: '30' } });
      await settledInRollups(service);
      await assertRollupAnswers(service, recent, questions);
      assert.equal((await metrics(service, { event_name: '*', from: '1' })).body.from, edge * 86_400);
      // Every question begins at the edge: the cells of five days that it runs through are never read.
      const faults = await rollupFaults(clickhouse.client, database);
      assert.deepEqual(
        faults.filter((fault) => !(fault.startsWith('[4,') && fault.split(',')[3] === `${Math.floor(edge / 5)}`)),
        [],
      );
      assert.deepEqual(
        await ask(
          `SELECT (SELECT count() FROM ${t('events')} WHERE ts < toDateTime64(${edge * 86_400}, 3, 'UTC')),
             (SELECT count() FROM ${t('rollup')} 
              WHERE level > 0 AND multiIf(level = 1, intDiv(bucket, 1440), level = 2, intDiv(bucket, 24), level = 3, bucket, bucket * 5 + 4) < ${edge})`,
        ),
        [[0, 0]],
      );

      // An operator's INSERT of what is too old, in one batch with what is not.
      const late = rowsOn([edge - 3, edge + 2]).map((row) => ({ ...row, received_at: Date.now() * 1000 }));
      await insertRows(clickhouse.client, database, late);
      await run(`INSERT INTO ${t('segments')} (token, state, rows, received_from, received_to)
         SELECT 'by hand', 'completion', 18, min(received_at), max(received_at) FROM ${t('events')} WHERE received_at > now64(6) - INTERVAL 1 HOUR`);
      const lateRecent = late.filter(({ ts }) => ts >= edge * DAY_MS);
      await eventually(
        'the batch is rolled',
        async () => {
          const [[count] = []] = await ask(`SELECT count() FROM ${t('rolled_segments')} WHERE token = 'by hand'`);
          return Number(count) > 0;
        },
        60_000,
      );
      await assertRollupAnswers(service, [...recent, ...lateRecent], questions);
    } finally {
      await service?.dispose();
      await removeDirectory(dataDir);
    }
  });
}
