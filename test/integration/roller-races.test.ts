import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ClickHouseClient } from '@clickhouse/client';
import { sipHash128 } from '../../src/shared/sip-hash.js';
import { Fence, FenceBroken } from '../../src/workers/roller/fence.js';
import type { RowGroup } from '../../src/workers/roller/rows.js';
import { UserNumbers } from '../../src/workers/roller/user-numbers.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { insertRows } from '../support/metrics-server.js';
import { batchOf, event, newRoller, numberFrom, settle, ship } from '../support/rolling.js';
import { rollupFaults } from '../support/rollup-check.js';

/** Invariant 3 in the rollup: of two rollers at the same moment one does not take place. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

/** Lets through, or holds whoever comes until it is opened. */
class Turnstile {
  #opened = Promise.resolve();
  #open = (): void => undefined;
  #reach = (): void => undefined;
  /** Someone is held. */
  reached = Promise.resolve();

  close(): void {
    this.#opened = new Promise((resolve) => {
      this.#open = resolve;
    });
    this.reached = new Promise((resolve) => {
      this.#reach = resolve;
    });
  }

  open(): void {
    this.#open();
  }

  async pass(): Promise<void> {
    this.#reach();
    await this.#opened;
  }
}

/** Rows of these users, as the roller reads them. */
function rowsOf(users: readonly string[]): RowGroup[] {
  const hashes = Buffer.concat(users.map((user) => sipHash128(Buffer.from(user))));
  const words = new Uint32Array(users.length * 4);
  new Uint8Array(words.buffer).set(hashes);
  const nothing = { timestamps: new Float64Array(users.length), eventIds: new Uint32Array(users.length * 4) };
  return [{ eventName: 'view', channel: 'web', count: users.length, users: words, ...nothing }];
}

/** Who gives numbers, with a filter of all hashes or without. */
async function numbersBy(by: ClickHouseClient, database: string, filterMax: number): Promise<UserNumbers> {
  const { signal } = new AbortController();
  const fence = new Fence(by, database, signal);
  const numbers = new UserNumbers({
    client: by,
    database,
    signal,
    fence,
    memoryMax: 1_000,
    usersMax: 1_000_000,
    filterMax,
  });
  await fence.reset();
  await numbers.reset();
  return numbers;
}

for (const filterMax of [0, 1_000]) {
  test(`of two rollers that number the same user first and others behind, one begins again (filter of ${filterMax})`, async () => {
    const { client } = clickhouse;
    const database = await clickhouse.newDatabase();
    const gate = new Turnstile();
    const quick = await numbersBy(client, database, filterMax);
    const slow = await numbersBy(stalledAt(gate, `\`${database}\`.\`rollup_users\``), database, filterMax);
    gate.close();
    // Both have found that none of them has a number.
    const late = assert.rejects(slow.of(rowsOf(['anna', 'dora', 'bert'])), FenceBroken);
    await gate.reached;
    assert.deepEqual(await quick.of(rowsOf(['anna', 'bert', 'carl'])), [Uint32Array.of(0, 1, 2)]);
    gate.open();
    await late;
    await slow.reset();
    // 3 is the mark of who was quicker.
    assert.deepEqual(await slow.of(rowsOf(['anna', 'dora', 'bert'])), [Uint32Array.of(0, 4, 1)]);
  });
}

test('who was numbered by another roller behind the reading of the filter gets no second number', async () => {
  const { client } = clickhouse;
  const database = await clickhouse.newDatabase();
  const first = await numbersBy(client, database, 1_000);
  assert.deepEqual(await first.of(rowsOf(['anna'])), [Uint32Array.of(0)]);
  const second = await numbersBy(client, database, 1_000);
  assert.deepEqual(await second.of(rowsOf(['anna', 'bert'])), [Uint32Array.of(0, 2)]);
  // Its filter does not have bert.
  await assert.rejects(first.of(rowsOf(['bert'])), FenceBroken);
  await first.reset();
  assert.deepEqual(await first.of(rowsOf(['bert', 'carl', 'anna'])), [Uint32Array.of(2, 4, 0)]);
});

test('a filter that has become too small is read again, with everyone in it', async () => {
  const { client } = clickhouse;
  // More users than the smallest filter has room for.
  const many = Array.from({ length: 120_000 }, (_, i) => `user ${i}`);
  // The second one has no filter any more when they are numbered.
  for (const filterMax of [1_000_000, 110_000]) {
    const numbers = await numbersBy(client, await clickhouse.newDatabase(), filterMax);
    await numbers.of(rowsOf(many));
    // Memory has room for a thousand: after these it has forgotten them.
    const crowds = [1, 2, 3].map((crowd) => Array.from({ length: 1_000 }, (_, i) => `crowd ${crowd} ${i}`));
    for (const crowd of crowds) await numbers.of(rowsOf(crowd));
    const { bytes } = numbers;
    assert.deepEqual(await numbers.of(rowsOf(['user 7', 'anna', 'user 119999', 'crowd 1 0'])), [
      // Each time that numbers are given, one is nobody's.
      Uint32Array.of(7, many.length + 3_004, many.length - 1, many.length + 1),
    ]);
    assert.equal(numbers.bytes, bytes);
  }
});

/** A client whose INSERTs into a table stop at a gate. */
function stalledAt(gate: Turnstile, table: string): ClickHouseClient {
  return new Proxy(clickhouse.client, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if ((property !== 'command' && property !== 'exec') || typeof value !== 'function') return value;
      return async (request: { readonly query: string }): Promise<unknown> => {
        if (request.query.includes(`INSERT INTO ${table}`)) await gate.pass();
        return Reflect.apply(value, target, [request]) as unknown;
      };
    },
  });
}

test('a roller that was stalled for longer than tokens live adds nothing', async () => {
  const database = await clickhouse.newDatabase();
  // As if more commits had passed than the window remembers.
  for (const table of ['rollup', 'rollup_users']) {
    await clickhouse.client.command({
      query: `ALTER TABLE ${database}.${table} MODIFY SETTING non_replicated_deduplication_window = 0`,
    });
  }
  for (const table of ['rollup', 'rollup_users']) {
    const gate = new Turnstile();
    const stalled = newRoller(stalledAt(gate, `\`${database}\`.\`${table}\``), database);
    const other = newRoller(clickhouse.client, database);
    await settle(stalled);
    gate.close();
    const batch = await ship(clickhouse.client, database, [
      event({ user_id: `${table} 1` }),
      event({ user_id: `${table} 2` }),
    ]);
    stalled.roller.offer(batch);
    const step = stalled.roller.step();
    await gate.reached;
    other.roller.offer(await ship(clickhouse.client, database, [event({ user_id: `${table} 3` })]));
    other.roller.offer(batch);
    await settle(other);
    gate.open();
    await step;
    await settle(stalled);
    assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
    assert.equal(
      await numberFrom(clickhouse.client, `SELECT count() - uniqExact(uid) FROM ${database}.rollup_users`),
      0,
    );
  }
});

/** A client whose next commit does not arrive, or is done without an answer, as `next.fate` says. */
function commitsFailing(next: { fate: 'arrives' | 'is refused' | 'has no answer' }, table: string): ClickHouseClient {
  return new Proxy(clickhouse.client, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (typeof value !== 'function') return value;
      return async (...values: [{ query?: string }]) => {
        const { fate } = next;
        if (fate === 'arrives' || values[0].query?.includes(`INTO ${table} (`) !== true)
          return (await Reflect.apply(value, target, values)) as unknown;
        next.fate = 'arrives';
        if (fate === 'is refused') throw new Error('connection refused, says the test');
        await Reflect.apply(value, target, values);
        throw new Error('connection reset, says the test');
      };
    },
  });
}

test('users of a busy hour are in all of its cells, whatever becomes of the commits that bring them', async () => {
  const database = await clickhouse.newDatabase();
  const next: Parameters<typeof commitsFailing>[0] = { fate: 'arrives' };
  const one = newRoller(commitsFailing(next, `\`${database}\`.\`rollup\``), database);
  const other = newRoller(clickhouse.client, database);
  await settle(one);
  const noon = Math.floor(Date.now() / 86_400_000) * 86_400_000 - 43_200_000;
  // Enough for sets of their own; each turn brings users whom no commit before had.
  const rows = (turn: number) =>
    Array.from({ length: 100 }, (_, i) => event({ ts: noon + i * 1_000, user_id: `user ${turn * 10 + (i % 50)}` }));
  for (const [turn, fate] of (['arrives', 'is refused', 'arrives', 'has no answer', 'arrives'] as const).entries()) {
    next.fate = fate;
    one.roller.offer(await ship(clickhouse.client, database, rows(turn)));
    const step = one.roller.step();
    if (fate === 'is refused') await assert.rejects(step, /says the test/);
    else await step;
    await settle(one);
    assert.equal(next.fate, 'arrives', 'the commit came by');
    assert.deepEqual(await rollupFaults(clickhouse.client, database), [], `${turn}: ${fate}`);
  }
  for (const [turn, rolling] of [other, one, other, one].entries()) {
    rolling.roller.offer(await ship(clickhouse.client, database, rows(5 + turn)));
    await settle(rolling);
    assert.deepEqual(await rollupFaults(clickhouse.client, database), [], `by turns, ${turn}`);
  }
});

test('own batches are left to a roller that commits all the time, and rolled when it is gone', async () => {
  const { client } = clickhouse;
  const database = await clickhouse.newDatabase();
  const leader = newRoller(client, database);
  const follower = newRoller(client, database, { leaveToOthersMs: 2_500 });
  await settle(leader);
  leader.roller.offer(await ship(client, database, [event()]));
  await settle(leader);
  await follower.roller.step();
  // Never in the ledger: the leader cannot roll it.
  const rows = [event({ user_id: 'bert' })];
  await insertRows(client, database, rows);
  follower.roller.offer(batchOf(rows));
  const from = performance.now();
  while (performance.now() - from < 4_000) {
    leader.roller.offer(await ship(client, database, [event()]));
    await leader.roller.step();
    assert.equal(await follower.roller.step(), false);
  }
  assert.equal(follower.counters.get('rollCommits'), 0);
  while (follower.counters.get('rollCommits') === 0) await follower.roller.step();
  await settle(follower);
  assert.deepEqual(await rollupFaults(clickhouse.client, database), []);
});
