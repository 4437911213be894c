import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../src/shared/clickhouse/client.js';
import { Counters, createCounters } from '../../src/shared/counters.js';
import { sipHash128 } from '../../src/shared/sip-hash.js';
import { Fence, FenceBroken } from '../../src/workers/roller/fence.js';
import { Roller, type RollerLimits } from '../../src/workers/roller/roller.js';
import type { RowGroup } from '../../src/workers/roller/rows.js';
import { UserNumbers } from '../../src/workers/roller/user-numbers.js';
import { silentLog, startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { type EventRow, randomFrom } from '../support/metrics-model.js';
import { insertRows } from '../support/metrics-server.js';
import { rollupFaults } from '../support/rollup-check.js';

/** Invariant 3 in the rollup: every cell equals the raw rows, whoever rolled, however often, and whatever failed meanwhile. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

const DAY_MS = 86_400_000;
/** Small enough to be forgotten all the time. */
const FORGETFUL: Partial<RollerLimits> = { identities: 30, users: 5, leaveToOthersMs: 0, windowRows: 60 };

interface TestRoller {
  readonly roller: Roller;
  readonly counters: Counters;
  readonly rolled: string[];
}

function newRoller(
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
async function settle({ roller }: TestRoller): Promise<void> {
  for (let idle = 0; idle < 2;) idle = (await roller.step()) ? 0 : idle + 1;
}

/** As the shipper does it: the rows, then their completion in the ledger. */
async function ship(database: string, rows: readonly EventRow[], state = 'completion'): Promise<Batch> {
  const batch = batchOf(rows);
  await insertRows(clickhouse.client, database, rows);
  await note(database, batch, state);
  return batch;
}

type Batch = Parameters<Roller['offer']>[0];

/** Of these rows. */
function batchOf(rows: readonly EventRow[]): Batch {
  const received = rows.map((row) => row.received_at);
  return {
    token: randomUUID(),
    rows: rows.length,
    receivedFromUs: Math.min(...received),
    receivedToUs: Math.max(...received),
  };
}

async function note(database: string, batch: Batch, state: string, agoSeconds = 0): Promise<void> {
  await clickhouse.client.insert({
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

async function faults(database: string): Promise<string[]> {
  return rollupFaults(clickhouse.client, database);
}

async function one(query: string): Promise<number> {
  const result = await clickhouse.client.query({ query, format: 'JSONCompactEachRow' });
  const [row] = await result.json<[string]>();
  return Number(row?.[0]);
}

let receivedUs = Date.now() * 1000;
function event(fields: Partial<EventRow> = {}): EventRow {
  receivedUs += 1_000;
  return {
    event_id: randomUUID(),
    event_name: 'view',
    channel: 'web',
    user_id: 'anna',
    ts: Date.now() - 5_000,
    received_at: receivedUs,
    ...fields,
  };
}

/** The same event, received again. */
function again(row: EventRow, fields: Partial<EventRow> = {}): EventRow {
  receivedUs += 1_000;
  return { ...row, received_at: receivedUs, ...fields };
}

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
  rolling.roller.offer(await ship(database, rows));
  await settle(rolling);
  rolling.roller.offer(await ship(database, [...rows.map((row) => again(row)), event({ user_id: 'carl' })]));
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
  assert.equal(
    await one(`SELECT sum(total) FROM ${database}.rollup WHERE level = 3 AND event_name = '' AND channel = ''`),
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
  rolling.roller.offer(await ship(database, rows));
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
  const parts = `SELECT count() FROM system.parts WHERE database = '${database}' AND table = 'rollup' AND active`;
  assert.equal(await one(parts), rolling.counters.get('rollCommits'));
  assert.ok((await one(`SELECT count() FROM ${database}.rollup`)) > 70_000);
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
  assert.deepEqual(await faults(database), []);
});

test('a later version with another user or channel counts instead, once its day is rebuilt', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database);
  const rows = Array.from({ length: 40 }, (_, i) => event({ user_id: `user ${i}`, ts: Date.now() - i * 3_000_000 }));
  rolling.roller.offer(await ship(database, rows));
  await settle(rolling);
  const [first, second, third] = rows as [EventRow, EventRow, EventRow];
  const changed = [
    again(first, { user_id: 'else' }),
    again(second, { channel: 'api' }),
    again(third, { channel: 'push' }),
  ];
  rolling.roller.offer(await ship(database, changed));
  // Before the commit that leaves them out, there is an exception.
  await rolling.roller.step();
  assert.ok((await one(`SELECT count() FROM ${database}.rollup_exceptions WHERE done = 0`)) >= 2);
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
  assert.equal(rolling.counters.get('rollOpenDays'), 0);
  // And again, on top of a rebuilt day.
  rolling.roller.offer(await ship(database, [again(first, { user_id: 'user 39' }), event(), again(second)]));
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
});

test('a batch whose instance never came back is rolled from its intent, and once more when it did', async () => {
  const database = await clickhouse.newDatabase();
  const rows = [event(), event({ user_id: 'bert' }), event({ user_id: 'carl' })];
  const lost = batchOf(rows);
  // Its INSERT was cut short: one of its rows is there.
  await insertRows(clickhouse.client, database, rows.slice(0, 1));
  await note(database, lost, 'intent', 400);
  await settle(newRoller(clickhouse.client, database));
  assert.deepEqual(await faults(database), []);
  // Its log comes back after all, and completes.
  await insertRows(clickhouse.client, database, rows);
  await note(database, lost, 'completion');
  const rolling = newRoller(clickhouse.client, database);
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
  assert.equal(rolling.counters.get('rollPendingSegments'), 0);
});

test('one roller leaves it to the other, is told what is rolled, and takes over when the other is gone', async () => {
  const database = await clickhouse.newDatabase();
  const limits = { leaveToOthersMs: 1_500 };
  const leader = newRoller(clickhouse.client, database, limits);
  const follower = newRoller(clickhouse.client, database, limits);
  await settle(leader);
  await settle(follower);
  leader.roller.offer(await ship(database, [event()]));
  await settle(leader);
  // It sees that somebody else has committed.
  await follower.roller.step();
  const batch = await ship(database, [event({ user_id: 'bert' })]);
  follower.roller.offer(batch);
  assert.equal(await follower.roller.step(), false);
  while (leader.counters.get('rollCommits') < 2) await leader.roller.step();
  assert.equal(await follower.roller.step(), false);
  assert.deepEqual(follower.rolled, [batch.token]);
  // The leader is gone. What a third instance shipped is found in the ledger.
  await ship(database, [event({ user_id: 'carl' })]);
  while (follower.counters.get('rollCommits') === 0) await follower.roller.step();
  assert.deepEqual(await faults(database), []);
  assert.equal(await one(`SELECT max(commits) FROM ${database}.rollup`), 3);
});

test('event names and users beyond the bounds make exceptions, and nothing else wrong', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database, { namesMax: 3, usersMax: 10, leaveToOthersMs: 0 });
  await settle(rolling);
  const rows = Array.from({ length: 9 }, (_, i) => event({ event_name: `name ${i % 3}`, user_id: `user ${i}` }));
  rolling.roller.offer(await ship(database, rows));
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
  rolling.roller.offer(await ship(database, [event({ event_name: 'one too many' })]));
  await settle(rolling);
  assert.equal(await one(`SELECT count() FROM ${database}.rollup_exceptions WHERE reason = 'names'`), 1);
  rolling.roller.offer(
    await ship(
      database,
      Array.from({ length: 5 }, (_, i) => event({ event_name: 'name 1', user_id: `late ${i}` })),
    ),
  );
  await settle(rolling);
  const days = `SELECT count() FROM ${database}.rollup_exceptions WHERE reason = 'users' AND event_name IN ('', 'name 1')`;
  assert.equal(await one(days), 2);
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
    one_.roller.offer(await ship(database, rows(turn)));
    two.roller.offer(await ship(database, rows(turn + 2)));
    await Promise.all([one_.roller.step(), two.roller.step()]);
  }
  await settle(one_);
  await settle(two);
  assert.deepEqual(await faults(database), []);
});

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

test('of two rollers that number the same user first and others behind, one begins again', async () => {
  const { client } = clickhouse;
  const database = await clickhouse.newDatabase();
  const { signal } = new AbortController();
  const numbersBy = async (by: ClickHouseClient): Promise<UserNumbers> => {
    const fence = new Fence(by, database, signal);
    const numbers = new UserNumbers({ client: by, database, signal, fence, memoryMax: 1_000, usersMax: 1_000 });
    await fence.reset();
    await numbers.reset();
    return numbers;
  };
  const gate = new Turnstile();
  const quick = await numbersBy(client);
  const slow = await numbersBy(stalledAt(gate, `\`${database}\`.\`rollup_users\``));
  gate.close();
  // Both have found that none of them has a number.
  const late = assert.rejects(slow.of(rowsOf(['anna', 'dora', 'bert'])), FenceBroken);
  await gate.reached;
  assert.deepEqual(await quick.of(rowsOf(['anna', 'bert', 'carl'])), [Uint32Array.of(0, 1, 2)]);
  gate.open();
  await late;
  await slow.reset();
  assert.deepEqual(await slow.of(rowsOf(['anna', 'dora', 'bert'])), [Uint32Array.of(0, 3, 1)]);
});

/** A client whose INSERTs into a table stop at a gate. */
function stalledAt(gate: Turnstile, table: string): ClickHouseClient {
  return new Proxy(clickhouse.client, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (property !== 'command' || typeof value !== 'function') return value;
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
    const batch = await ship(database, [event({ user_id: `${table} 1` }), event({ user_id: `${table} 2` })]);
    stalled.roller.offer(batch);
    const step = stalled.roller.step();
    await gate.reached;
    other.roller.offer(await ship(database, [event({ user_id: `${table} 3` })]));
    other.roller.offer(batch);
    await settle(other);
    gate.open();
    await step;
    await settle(stalled);
    assert.deepEqual(await faults(database), []);
    assert.equal(await one(`SELECT count() - uniqExact(uid) FROM ${database}.rollup_users`), 0);
  }
});

for (const laterMs of [1_000, 20_000, 3_600_000]) {
  test(`a batch is not said to be rolled before an event of it that was received again ${laterMs / 1000} s later counts`, async () => {
    const database = await clickhouse.newDatabase();
    const rolling = newRoller(clickhouse.client, database);
    await settle(rolling);
    const row = event();
    const first = await ship(database, [row, event({ user_id: 'bert' })]);
    const later = await ship(database, [again(row, { received_at: receivedUs + laterMs * 1_000 })], 'intent');
    await clickhouse.client.command({ query: `OPTIMIZE TABLE ${database}.events FINAL` });
    rolling.roller.offer(first);
    await settle(rolling);
    assert.deepEqual(rolling.rolled, [first.token]);
    assert.deepEqual(await faults(database), []);
    await note(database, later, 'completion');
    rolling.roller.offer(later);
    await settle(rolling);
    assert.deepEqual(await faults(database), []);
  });
}

test('of a backlog nothing is said to be rolled before all of it is, and what was under way meanwhile', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database, { leaveToOthersMs: 0, windowRows: 15 });
  await settle(rolling);
  const start = receivedUs;
  const rows = Array.from({ length: 60 }, (_, i) => event({ user_id: `user ${i}`, received_at: start + i * 1e6 }));
  const batches: Batch[] = [];
  for (let i = 0; i < 6; i += 1) batches.push(await ship(database, rows.slice(i * 10, i * 10 + 10)));
  // Of the first batch, one event was received again in the third, and one in a batch that nobody has confirmed yet.
  const [one_, two] = rows as [EventRow, EventRow];
  batches.push(await ship(database, [again(one_, { received_at: start + 25e6 })]));
  const underWay = await ship(database, [again(two, { received_at: start + 2_000e6 })], 'intent');
  await clickhouse.client.command({ query: `OPTIMIZE TABLE ${database}.events FINAL` });
  for (const batch of batches) rolling.roller.offer(batch);
  for (let steps = 0; rolling.rolled.length === 0; steps += 1) {
    assert.ok(steps < 20);
    await rolling.roller.step();
  }
  assert.equal(rolling.rolled.length, batches.length, 'all at once');
  assert.ok(rolling.counters.get('rollCommits') >= 4, 'in parts');
  assert.deepEqual(await faults(database), []);
  rolling.roller.offer(underWay);
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
});

test('instances whose clocks are hours apart', async () => {
  const database = await clickhouse.newDatabase();
  const rolling = newRoller(clickhouse.client, database);
  await settle(rolling);
  const rows = Array.from({ length: 30 }, (_, i) => event({ user_id: `user ${i}`, ts: Date.now() - i * 60_000 }));
  const from = (skewMs: number): EventRow[] =>
    rows.map((row) => again(row, { received_at: receivedUs + skewMs * 1_000, user_id: row.user_id }));
  for (const skewMs of [0, 7_200_000, -7_200_000, 3_600_000]) {
    rolling.roller.offer(await ship(database, [...from(skewMs), event({ received_at: receivedUs + skewMs * 1_000 })]));
    await settle(rolling);
    assert.deepEqual(await faults(database), []);
  }
  // An older machine's version of an event comes later, but does not count.
  const [first] = rows as [EventRow];
  rolling.roller.offer(
    await ship(database, [again(first, { channel: 'push', received_at: receivedUs - 9_000_000_000 })]),
  );
  await settle(rolling);
  assert.deepEqual(await faults(database), []);
});

interface Chaos {
  readonly client: ClickHouseClient;
  rate: number;
}

/** A client some of whose calls fail: before they reach ClickHouse, or when they have been done. */
function unreliable(random: () => number): Chaos {
  const chaos = { client: clickhouse.client, rate: 0 };
  chaos.client = new Proxy(clickhouse.client, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (typeof value !== 'function') return value;
      return async (...values: unknown[]) => {
        const fate = random();
        if (fate < chaos.rate / 2) throw new Error('connection refused, says the test');
        const result: unknown = await Reflect.apply(value, target, values);
        if (fate < chaos.rate) throw new Error('connection reset, says the test');
        return result;
      };
    },
  });
  return chaos;
}

/** Rows of a small world, in which everything happens twice. */
class World {
  readonly #random: () => number;
  readonly #known: EventRow[] = [];

  constructor(random: () => number) {
    this.#random = random;
  }

  rows(count: number): EventRow[] {
    return Array.from({ length: count }, () => {
      const old = this.#known[this.#pick(this.#known.length)];
      if (old !== undefined && this.#random() < 0.3) {
        const fate = this.#random();
        if (fate < 0.03) return again(old, { user_id: `user ${this.#pick(25)}` });
        if (fate < 0.06) return again(old, { channel: ['web', 'api', 'push'][this.#pick(3)] ?? 'web' });
        return again(old);
      }
      const row = event({
        event_name: ['view', "bu'y\\", '💧'][this.#pick(3)] ?? 'view',
        channel: ['web', 'api', 'push'][this.#pick(3)] ?? 'web',
        user_id: `user ${this.#pick(25)}`,
        ts: Date.now() - this.#pick(this.#random() < 0.5 ? 3 : 4_000) * 60_000 - this.#pick(50_000),
      });
      this.#known.push(row);
      return row;
    });
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }
}

const ROUNDS = Number(process.env['ROLL_ROUNDS'] ?? 3);

test('rollers that fail, die, forget and work at the same time count every event once', async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const seed = Number(process.env['TEST_SEED'] ?? randomInt(2 ** 32));
    const random = randomFrom(seed);
    const database = await clickhouse.newDatabase();
    const world = new World(random);
    const chaos = unreliable(random);
    const fresh = (): TestRoller =>
      newRoller(chaos.client, database, random() < 0.6 ? FORGETFUL : { leaveToOthersMs: 0 });
    const rollers = [fresh(), fresh()];
    if (random() < 0.5) await insertRows(clickhouse.client, database, world.rows(50));
    for (let turn = 0; turn < 25; turn += 1) {
      chaos.rate = random() < 0.3 ? 0.15 : 0;
      const batch = await ship(database, world.rows(1 + Math.floor(random() * 120)));
      rollers[Math.floor(random() * 2)]?.roller.offer(batch);
      if (random() < 0.1) rollers[Math.floor(random() * 2)] = fresh();
      if (random() < 0.1) await clickhouse.client.command({ query: `OPTIMIZE TABLE ${database}.events FINAL` });
      // At once, or one of them.
      const steps = rollers.filter(() => random() < 0.7).map(({ roller }) => roller.step());
      await Promise.allSettled(steps);
    }
    chaos.rate = 0;
    // What the two had not seen in the ledger yet, a third does.
    for (const rolling of [...rollers, newRoller(clickhouse.client, database)]) await settle(rolling);
    assert.deepEqual(await faults(database), [], `TEST_SEED=${seed}`);
    assert.equal(
      await one(`SELECT count() FROM (SELECT uid FROM ${database}.rollup_users GROUP BY uid HAVING count() > 1)`),
      0,
    );
  }
});
