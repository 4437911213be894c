import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import type { EventRow } from '../support/metrics-model.js';
import { again, type Batch, event, newRoller, note, receiving, settle, ship } from '../support/rolling.js';
import { rollupFaults } from '../support/rollup-check.js';

/** Invariant 3 in the rollup, and `as_of`: an event whose row was replaced by a later one before it was rolled. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

for (const laterMs of [1_000, 20_000, 3_600_000]) {
  test(`a batch is not said to be rolled before an event of it that was received again ${laterMs / 1000} s later counts`, async () => {
    const database = await clickhouse.newDatabase();
    const rolling = newRoller(clickhouse.client, database);
    await settle(rolling);
    const row = event();
    const first = await ship(clickhouse.client, database, [row, event({ user_id: 'bert' })]);
    const later = await ship(
      clickhouse.client,
      database,
      [again(row, { received_at: receiving.us + laterMs * 1_000 })],
      'intent',
    );
    await clickhouse.client.command({ query: `OPTIMIZE TABLE ${database}.events FINAL` });
    rolling.roller.offer(first);
    await settle(rolling);
    assert.deepEqual(rolling.rolled, [first.token]);
    assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
    await note(clickhouse.client, database, later, 'completion');
    rolling.roller.offer(later);
    await settle(rolling);
    assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  });
}

test('of a backlog nothing is said to be rolled before all of it is, and what was under way meanwhile', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database, { leaveToOthersMs: 0, windowRows: 15 });
  await settle(rolling);
  const start = receiving.us;
  const rows = Array.from({ length: 60 }, (_, i) => event({ user_id: `user ${i}`, received_at: start + i * 1e6 }));
  const batches: Batch[] = [];
  for (let i = 0; i < 6; i += 1) batches.push(await ship(clickhouse.client, database, rows.slice(i * 10, i * 10 + 10)));
  // Of the first batch, one event was received again in the third, one in a batch that nobody has confirmed yet, and one in a batch
  // of another instance, in between two windows, that the roller has not met in the ledger yet.
  const [one_, two, three] = rows as [EventRow, EventRow, EventRow];
  await ship(clickhouse.client, database, [again(three, { received_at: start + 9.5e6 })]);
  batches.push(await ship(clickhouse.client, database, [again(one_, { received_at: start + 25e6 })]));
  const underWay = await ship(clickhouse.client, database, [again(two, { received_at: start + 2_000e6 })], 'intent');
  await clickhouse.client.command({ query: `OPTIMIZE TABLE ${database}.events FINAL` });
  for (const batch of batches) rolling.roller.offer(batch);
  for (let steps = 0; rolling.rolled.length === 0; steps += 1) {
    assert.ok(steps < 20);
    await rolling.roller.step();
  }
  assert.equal(rolling.rolled.length, batches.length, 'all at once');
  assert.ok(rolling.counters.get('rollCommits') >= 4, 'in parts');
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
  rolling.roller.offer(underWay);
  await settle(rolling);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
});
