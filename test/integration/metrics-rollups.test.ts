import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { tableName } from '../../src/shared/clickhouse/client.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { DAY_MS, type Dice, FIRST_DAY, GROUPINGS, HOUR_MS, MINUTE_MS, seededDice } from '../support/dice.js';
import type { EventRow } from '../support/metrics-model.js';
import { type Answer, insertRows, type MetricsServer, serveMetrics } from '../support/metrics-server.js';
import { ReferenceRoller } from '../support/reference-roller.js';
import { newRoller, settle, ship } from '../support/rolling.js';

/** Answers from rollups are those from raw rows, whatever is asked. metrics-exact.test.ts holds the latter to a count by hand. */

const SHIPPED = 1;
const ROLLED = 2;

let clickhouse: TestClickHouse;
const servers: MetricsServer[] = [];
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(async () => {
  for (const server of servers) server.close();
  await clickhouse.stop();
});

/** The same database through its rollups and through its raw rows; as_of tells where an answer came from. */
interface Pair {
  readonly rollups: MetricsServer;
  readonly raw: MetricsServer;
}

function servePair(database: string): Pair {
  const common = { client: clickhouse.client, database, asOfShipped: () => SHIPPED, asOfRolled: () => ROLLED };
  const pair = { rollups: serveMetrics({ ...common, rollups: () => 'ready' }), raw: serveMetrics(common) };
  servers.push(pair.rollups, pair.raw);
  return pair;
}

async function databaseWith(rows: readonly EventRow[]): Promise<{ database: string; roller: ReferenceRoller }> {
  const database = await clickhouse.newDatabase();
  for (const table of ['events', 'rollup', 'rollup_users', 'rollup_exceptions']) {
    await clickhouse.client.command({ query: `SYSTEM STOP MERGES ${tableName(database, table)}` });
  }
  const half = Math.floor(rows.length / 2);
  for (const part of [rows.slice(0, half), rows.slice(half)]) await insertRows(clickhouse.client, database, part);
  return { database, roller: new ReferenceRoller(clickhouse.client, database) };
}

async function ask(server: MetricsServer, parameters: Record<string, string>): Promise<Answer> {
  const response = await server.get(parameters);
  assert.equal(response.status, 200, response.text);
  return response.body;
}

function withoutAsOf(answer: Answer): Answer {
  return { ...answer, as_of: 0 };
}

async function compare({ rollups, raw }: Pair, question: Record<string, string>): Promise<number | undefined> {
  const answer = await ask(rollups, question);
  assert.deepEqual(withoutAsOf(answer), withoutAsOf(await ask(raw, question)), JSON.stringify(question));
  return answer.as_of;
}

async function compareMany(pair: Pair, dice: Dice, count: number): Promise<number> {
  let fromRollups = 0;
  for (let i = 0; i < count; i += 1) if ((await compare(pair, dice.question())) === ROLLED) fromRollups += 1;
  return fromRollups;
}

async function optimize(database: string): Promise<void> {
  for (const table of ['rollup', 'rollup_exceptions']) {
    const name = tableName(database, table);
    await clickhouse.client.command({ query: `SYSTEM START MERGES ${name}` });
    await clickhouse.client.command({ query: `OPTIMIZE TABLE ${name} FINAL` });
  }
}

test('hundreds of questions have the same answers from rollups as from raw rows, cells merged or in pieces', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const { database, roller } = await databaseWith(dice.events(3000));
  await roller.numberUsers();
  await roller.addCells();
  const pair = servePair(database);
  for (const group_by of GROUPINGS) {
    const grouped: Record<string, string> = group_by.length === 0 ? {} : { group_by: group_by.join(',') };
    for (const event_name of ['*', 'view']) {
      assert.equal(await compare(pair, { event_name, ...grouped }), ROLLED);
      assert.equal(await compare(pair, { event_name, ...grouped, channel: 'web' }), ROLLED);
    }
  }
  const asked = 60;
  const answered =
    (await compareMany(pair, dice, asked)) + (await optimize(database), await compareMany(pair, dice, asked));
  assert.ok(answered > asked, `${answered}`);
  const { fromRollups, fromRaw, repeated } = pair.rollups.tally;
  assert.equal(fromRollups + (fromRaw.get('empty') ?? 0), 4 * GROUPINGS.length + 2 * asked);
  assert.equal(repeated, 0);
});

test('pages from rollups joined together are the answer from raw rows without pages', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const { database, roller } = await databaseWith(dice.events(600));
  await roller.numberUsers();
  await roller.addCells();
  const { rollups, raw } = servePair(database);
  const from = `${Math.floor((FIRST_DAY + 5 * HOUR_MS + 17 * MINUTE_MS) / 1000) + 13}`;
  for (const group_by of GROUPINGS.slice(1)) {
    const question = { event_name: '*', from, group_by: group_by.join(',') };
    const groups: unknown[] = [];
    let cursor: string | null | undefined;
    do {
      const limit = `${5 + dice.below(40)}`;
      const page: Record<string, string> = typeof cursor === 'string' ? { cursor } : {};
      const answer = await ask(rollups, { ...question, ...page, limit });
      groups.push(...(answer.data ?? []));
      cursor = answer.next_cursor;
    } while (typeof cursor === 'string');
    assert.deepEqual(groups, (await ask(raw, { ...question, limit: '10000' })).data, group_by.join(','));
  }
});

const DAY = FIRST_DAY / DAY_MS;
const ofDay = (day: number): string => `intDiv(toUnixTimestamp64Milli(ts), ${DAY_MS}) = ${day}`;

test('a day that was rebuilt counts in its latest generation, and an open one from raw rows', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const { database, roller } = await databaseWith(dice.events(1500));
  await roller.numberUsers();
  await roller.addCells();
  const pair = servePair(database);
  assert.equal(await compare(pair, { event_name: 'view' }), ROLLED);

  // Twice as much as there is: whoever still reads it is wrong. First excepted, as the roller does, then wrong.
  for (const event_name of ['view', '']) await roller.except({ event_name, day: DAY + 1, request: 1 });
  await roller.addCells(`event_name = 'view' AND ${ofDay(DAY + 1)}`);
  const from = `${FIRST_DAY / 1000}`;
  const to = `${FIRST_DAY / 1000 + 86_399}`;
  assert.equal(await compare(pair, { event_name: 'view' }), SHIPPED);
  assert.equal(await compare(pair, { event_name: '*' }), SHIPPED);
  assert.equal(await compare(pair, { event_name: '*', group_by: 'event_name' }), SHIPPED);
  assert.equal(await compare(pair, { event_name: 'View' }), ROLLED);
  assert.equal(await compare(pair, { event_name: 'view', from, to }), ROLLED);
  await compareMany(pair, dice, 25);
  assert.ok((pair.rollups.tally.fromRaw.get('exception') ?? 0) >= 3);

  // Rebuilt: all cells of the name, and all cells of all events, whoever they are of.
  const rebuild = async (generation: number, request: number): Promise<void> => {
    const scratch = await databaseWith([]);
    const copy = async (table: string, where: string): Promise<void> => {
      await clickhouse.client.command({
        query: `INSERT INTO ${tableName(scratch.database, table)} SELECT * FROM ${tableName(database, table)} WHERE ${where}`,
      });
    };
    await copy('events', ofDay(DAY + 1));
    await copy('rollup_users', 'true');
    await scratch.roller.addCells('true', { generation });
    await clickhouse.client.command({
      query: `INSERT INTO ${tableName(database, 'rollup')} SELECT * FROM ${tableName(scratch.database, 'rollup')}
        WHERE event_name IN ('view', '')`,
    });
    for (const event_name of ['view', '']) {
      await roller.except({ event_name, day: DAY + 1, request, done: true, generation });
    }
  };
  await rebuild(7, 1);
  assert.equal(await compare(pair, { event_name: 'view' }), ROLLED);
  await compareMany(pair, dice, 25);

  // Once more, while the cells of the generation before are still there.
  for (const event_name of ['view', '']) await roller.except({ event_name, day: DAY + 1, request: 2 });
  assert.equal(await compare(pair, { event_name: '*' }), SHIPPED);
  await rebuild(9, 2);
  assert.equal(await compare(pair, { event_name: '*' }), ROLLED);
  const fromRaw = pair.rollups.tally.fromRaw.get('exception');
  await compareMany(pair, dice, 25);
  await optimize(database);
  await compareMany(pair, dice, 25);
  assert.equal(pair.rollups.tally.fromRaw.get('exception'), fromRaw);
});

test('where there are more event names than are rolled, what may concern the others comes from raw rows', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const { database, roller } = await databaseWith(dice.events(600));
  await roller.numberUsers();
  await roller.except({ event_name: '', day: 2 ** 32 - 1, request: 1, reason: 'names' });
  await roller.addCells("event_name != 'View'");
  const pair = servePair(database);
  assert.equal(await compare(pair, { event_name: 'view' }), ROLLED);
  assert.equal(await compare(pair, { event_name: 'View' }), SHIPPED);
  assert.equal(await compare(pair, { event_name: 'View', group_by: 'hour' }), SHIPPED);
  assert.equal(await compare(pair, { event_name: 'never', group_by: 'channel' }), SHIPPED);
  assert.equal(await compare(pair, { event_name: '*' }), SHIPPED);
  assert.equal(await compare(pair, { event_name: '*', group_by: 'event_name' }), SHIPPED);
  assert.equal(pair.rollups.tally.fromRaw.get('names'), 5);
});

test('rollups that are behind are not asked', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const { database } = await databaseWith(dice.events(200));
  let state: 'ready' | 'behind' = 'behind';
  let rolled = 2;
  const server = serveMetrics({
    client: clickhouse.client,
    database,
    rollups: () => state,
    asOfShipped: () => 7,
    asOfRolled: () => rolled,
  });
  servers.push(server);
  const behind = await ask(server, { event_name: '*' });
  assert.equal(behind.as_of, 7);
  assert.ok((behind.total_events ?? 0) > 100);
  // Ready, but what was answered until then is not all there: the answer waits for it.
  state = 'ready';
  setTimeout(() => {
    rolled = 7;
  }, 300);
  const nothing = { event_name: '*', total_events: 0, unique_users: 0 };
  assert.deepEqual(await ask(server, { event_name: '*' }), { ...nothing, as_of: 7 });
  // Not for ever.
  rolled = 6;
  assert.ok(((await ask(server, { event_name: '*' })).total_events ?? 0) > 100);
  const { fromRollups, fromRaw } = server.tally;
  assert.deepEqual([fromRollups, fromRaw.get('behind')], [1, 2]);
});

test('an answer from raw rows promises no more than one from rollups does at the same time', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const { database, roller } = await databaseWith(dice.events(50));
  await roller.except({ event_name: '', day: 2 ** 32 - 1, request: 1, reason: 'names' });
  const { client } = clickhouse;
  const server = serveMetrics({ client, database, rollups: () => 'ready', asOfShipped: () => 7, asOfRolled: () => 2 });
  servers.push(server);
  assert.equal((await ask(server, { event_name: '*' })).as_of, 2);
  assert.equal(server.tally.fromRaw.get('names'), 1);
});

test('what the roller has rolled answers as the raw rows do: late events, changed ones, days rebuilt', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const { database } = await databaseWith([]);
  const rolling = newRoller(clickhouse.client, database, {
    leaveToOthersMs: 0,
    identities: 100,
    identitySteps: 1,
    identitiesOfSecond: 0,
    users: 10,
  });
  const pair = servePair(database);
  const rows = dice.events(600);
  let exceptions = 0;
  for (let at = 0; at < rows.length; at += 200) {
    rolling.roller.offer(await ship(clickhouse.client, database, rows.slice(at, at + 200)));
    await settle(rolling, () => {
      exceptions = Math.max(exceptions, rolling.counters.get('rollOpenDays'));
    });
    await compareMany(pair, dice, 25);
  }
  assert.ok(exceptions > 0, 'no event was changed');
  assert.equal(await compare(pair, { event_name: '*' }), ROLLED);
});
