import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { tableName } from '../../src/shared/clickhouse/client.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import type { EventRow } from '../support/metrics-model.js';
import { insertRows } from '../support/metrics-server.js';
import { again, batchOf, event, newRoller, numberFrom, note, receiving, settle, ship } from '../support/rolling.js';
import { rollupFaults } from '../support/rollup-check.js';

/** Invariant 3 in the rollup: every cell equals the raw rows, whoever rolled, however often, and whatever failed meanwhile. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

const DAY_MS = 86_400_000;
test('events are counted once, in every cell they belong to', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database);
  await settle(rolling);
  const rows = [
    event(),
    event({ user_id: 'bert' }),
    event({ channel: 'api' }),
    event({ event_name: 'buy', ts: Date.now() - 40 * DAY_MS }),
  ];
  rolling.roller.offer(await ship(clickhouse.client, database, rows));
  await settle(rolling);
  rolling.roller.offer(
    await ship(clickhouse.client, database, [...rows.map((row) => again(row)), event({ user_id: 'carl' })]),
  );
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  assert.equal(
    await numberFrom(
      clickhouse.client,
      `SELECT sum(total) FROM ${database}.rollup WHERE level = 3 AND event_name = '' AND channel = ''`,
    ),
    5,
  );
  assert.equal(rolling.rolled.length, 2);
});

test('one commit is one part', async () => {
  const database = await clickhouse.newDatabase();
  await clickhouse.client.command({ query: `SYSTEM STOP MERGES ${tableName(database, 'rollup')}` });
  const rolling = newRoller(clickhouse.client, database);
  // More cells than ClickHouse puts into a block by itself (65 409 rows).
  const rows = Array.from({ length: 70_000 }, (_, i) =>
    event({ ts: Date.now() - i * 60_000, user_id: `user ${i % 700}` }),
  );
  rolling.roller.offer(await ship(clickhouse.client, database, rows));
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  const parts = `SELECT count() FROM system.parts WHERE database = '${database}' AND table = 'rollup' AND active`;
  assert.equal(await numberFrom(clickhouse.client, parts), rolling.counters.get('rollCommits'));
  assert.ok((await numberFrom(clickhouse.client, `SELECT count() FROM ${database}.rollup`)) > 70_000);
});

test('what was in the table before there was a ledger is rolled, in chunks', async () => {
  const database = await clickhouse.newDatabase();
  const rows = Array.from({ length: 3_000 }, (_, i) =>
    event({ ts: Date.now() - i * 613_000, user_id: `user ${i % 70}` }),
  );
  await insertRows(clickhouse.client, database, rows);
  await insertRows(
    clickhouse.client,
    database,
    rows.slice(0, 500).map((row) => again(row)),
  );
  await settle(newRoller(clickhouse.client, database));
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
});

test('a later version with another user or channel counts instead, once its day is rebuilt', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database);
  const rows = Array.from({ length: 40 }, (_, i) => event({ user_id: `user ${i}`, ts: Date.now() - i * 3_000_000 }));
  rolling.roller.offer(await ship(clickhouse.client, database, rows));
  await settle(rolling);
  const [first, second, third] = rows as [EventRow, EventRow, EventRow];
  const changed = [
    again(first, { user_id: 'else' }),
    again(second, { channel: 'api' }),
    again(third, { channel: 'push' }),
  ];
  rolling.roller.offer(await ship(clickhouse.client, database, changed));
  // Before the commit that leaves them out, there is an exception.
  await rolling.roller.step();
  assert.ok(
    (await numberFrom(clickhouse.client, `SELECT count() FROM ${database}.rollup_exceptions WHERE done = 0`)) >= 2,
  );
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  assert.equal(rolling.counters.get('rollOpenDays'), 0);
  // And again, on top of a rebuilt day.
  rolling.roller.offer(
    await ship(clickhouse.client, database, [again(first, { user_id: 'user 39' }), event(), again(second)]),
  );
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
});

test('late events that are sent again soon are known without loading their seconds, until their day is rebuilt', async () => {
  const database = await clickhouse.newDatabase();
  const { client } = clickhouse;
  const rolling = newRoller(client, database);
  await settle(rolling);
  const send = async (rows: readonly EventRow[]): Promise<void> => {
    rolling.roller.offer(await ship(client, database, rows));
    await settle(rolling);
    assert.deepEqual(await rollupFaults(client, database), []);
  };
  const rows = Array.from({ length: 30 }, (_, i) => event({ user_id: `user ${i}`, ts: Date.now() - i * 3 * DAY_MS }));
  const late = rows.slice(1);
  const [first] = late as [EventRow];
  await send([...rows, ...late.map((row) => again(row))]);
  await send([
    ...rows.map((row) => again(row)),
    event({ ts: first.ts, user_id: 'who happens to be in the same second' }),
  ]);
  assert.equal(rolling.counters.get('rollLoadedSeconds'), 0);
  // Twice in one batch, with different users; then as it was at first, which is not what its day was rebuilt with.
  await send([again(first, { user_id: 'a' }), again(first, { user_id: 'b' })]);
  await send([again(first)]);
  await send([again(first)]);
  // A roller that did not count them itself has to look.
  const other = newRoller(client, database, { leaveToOthersMs: 0 });
  other.roller.offer(
    await ship(
      client,
      database,
      late.map((row) => again(row)),
    ),
  );
  await settle(other);
  assert.deepEqual(await rollupFaults(client, database), []);
  assert.equal(other.counters.get('rollLoadedSeconds'), late.length);
});

test('a second of a backlog is counted step by step without being loaded, where its pace is within the bound', async () => {
  const loadedSeconds = async (identitiesOfSecond: number): Promise<number> => {
    const database = await clickhouse.newDatabase();
    const limits = { leaveToOthersMs: 0, windowRows: 100, identities: 100, identitySteps: 3, identitiesOfSecond };
    const rolling = newRoller(clickhouse.client, database, limits);
    await settle(rolling);
    const ts = Math.floor(Date.now() / 1000 - 5) * 1000;
    for (let batch = 0; batch < 20; batch += 1) {
      const rows = Array.from({ length: 50 }, (_, i) => event({ ts: ts + batch * 50 + i, user_id: `user ${i}` }));
      rolling.roller.offer(await ship(clickhouse.client, database, rows));
    }
    await settle(rolling);
    assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
    assert.ok(rolling.counters.get('rollCommits') > 1, 'it took several steps');
    return rolling.counters.get('rollLoadedSeconds');
  };
  assert.equal(await loadedSeconds(2_000), 0);
  assert.ok((await loadedSeconds(0)) > 0);
});

test('a batch whose instance never came back is rolled from its intent, and once more when it did', async () => {
  const database = await clickhouse.newDatabase();
  const rows = [event(), event({ user_id: 'bert' }), event({ user_id: 'carl' })];
  const lost = batchOf(rows);
  // Its INSERT was cut short: one of its rows is there.
  await insertRows(clickhouse.client, database, rows.slice(0, 1));
  await note(clickhouse.client, database, lost, 'intent', 400);
  await settle(newRoller(clickhouse.client, database));
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  // Its log comes back after all, and completes.
  await insertRows(clickhouse.client, database, rows);
  await note(clickhouse.client, database, lost, 'completion');
  const rolling = newRoller(clickhouse.client, database);
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  assert.equal(rolling.counters.get('rollPendingSegments'), 0);
});

test('one roller leaves it to the other, is told what is rolled, and takes over when the other is gone', async () => {
  const database = await clickhouse.newDatabase();
  const limits = { leaveToOthersMs: 1_500 };
  const leader = newRoller(clickhouse.client, database, limits);
  const follower = newRoller(clickhouse.client, database, limits);
  await settle(leader);
  await settle(follower);
  leader.roller.offer(await ship(clickhouse.client, database, [event()]));
  await settle(leader);
  // It sees that somebody else has committed.
  await follower.roller.step();
  const batch = await ship(clickhouse.client, database, [event({ user_id: 'bert' })]);
  follower.roller.offer(batch);
  assert.equal(await follower.roller.step(), false);
  while (leader.counters.get('rollCommits') < 2) await leader.roller.step();
  assert.equal(await follower.roller.step(), false);
  assert.deepEqual(follower.rolled, [batch.token]);
  // The leader is gone. What a third instance shipped is found in the ledger.
  await ship(clickhouse.client, database, [event({ user_id: 'carl' })]);
  while (follower.counters.get('rollCommits') === 0) await follower.roller.step();
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  assert.equal(await numberFrom(clickhouse.client, `SELECT max(commits) FROM ${database}.rollup`), 3);
});

test('event names and users beyond the bounds make exceptions, and nothing else wrong', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database, { namesMax: 3, usersMax: 10, leaveToOthersMs: 0 });
  await settle(rolling);
  const rows = Array.from({ length: 9 }, (_, i) => event({ event_name: `name ${i % 3}`, user_id: `user ${i}` }));
  rolling.roller.offer(await ship(clickhouse.client, database, rows));
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  rolling.roller.offer(await ship(clickhouse.client, database, [event({ event_name: 'one too many' })]));
  await settle(rolling);
  assert.equal(
    await numberFrom(clickhouse.client, `SELECT count() FROM ${database}.rollup_exceptions WHERE reason = 'names'`),
    1,
  );
  rolling.roller.offer(
    await ship(
      clickhouse.client,
      database,
      Array.from({ length: 5 }, (_, i) => event({ event_name: 'name 1', user_id: `late ${i}` })),
    ),
  );
  await settle(rolling);
  const days = `SELECT count() FROM ${database}.rollup_exceptions WHERE reason = 'users' AND event_name IN ('', 'name 1')`;
  assert.equal(await numberFrom(clickhouse.client, days), 2);
});

test('two rollers at once, on different hours of one day: one of them does not take place, and comes again', async () => {
  const database = await clickhouse.newDatabase();
  const [one_, two] = [newRoller(clickhouse.client, database), newRoller(clickhouse.client, database)];
  await settle(one_);
  await settle(two);
  const noon = Math.floor(Date.now() / DAY_MS) * DAY_MS - DAY_MS / 2;
  for (let turn = 0; turn < 8; turn += 1) {
    const rows = (hour: number): EventRow[] =>
      Array.from({ length: 5 }, (_, i) => event({ ts: noon + hour * 3_600_000 + i, user_id: `user ${turn % 3} ${i}` }));
    one_.roller.offer(await ship(clickhouse.client, database, rows(turn)));
    two.roller.offer(await ship(clickhouse.client, database, rows(turn + 2)));
    await Promise.all([one_.roller.step(), two.roller.step()]);
  }
  await settle(one_);
  await settle(two);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
});

test('instances whose clocks are hours apart', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database);
  await settle(rolling);
  const rows = Array.from({ length: 30 }, (_, i) => event({ user_id: `user ${i}`, ts: Date.now() - i * 60_000 }));
  const from = (skewMs: number): EventRow[] =>
    rows.map((row) => again(row, { received_at: receiving.us + skewMs * 1_000, user_id: row.user_id }));
  for (const skewMs of [0, 7_200_000, -7_200_000, 3_600_000]) {
    rolling.roller.offer(
      await ship(clickhouse.client, database, [...from(skewMs), event({ received_at: receiving.us + skewMs * 1_000 })]),
    );
    await settle(rolling);
    assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  }
  // An older machine's version of an event comes later, but does not count.
  const [first] = rows as [EventRow];
  rolling.roller.offer(
    await ship(clickhouse.client, database, [
      again(first, { channel: 'push', received_at: receiving.us - 9_000_000_000 }),
    ]),
  );
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
});
