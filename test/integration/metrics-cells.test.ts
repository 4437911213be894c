import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ClickHouseClient } from '@clickhouse/client';
import { tableName } from '../../src/shared/clickhouse/client.js';
import type { MetricsQuestion } from '../../src/shared/metrics/parameters.js';
import { type TestCells, cellsFollowing } from '../support/cells.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { DAY_MS, type Dice, FIRST_DAY, GROUPINGS, seededDice } from '../support/dice.js';
import { type MetricsServer, serveMetrics } from '../support/metrics-server.js';
import { assertAccepted, event as eventBody, metrics, postEvent } from '../support/requests.js';
import { settledInRollups } from '../support/rollup-answers.js';
import { Service } from '../support/service.js';
import { again, event, newRoller, settle, ship, type TestRoller } from '../support/rolling.js';

/** Answers out of memory are those from raw rows, whatever is asked and whatever is rolled meanwhile. */

let clickhouse: TestClickHouse;
const servers: MetricsServer[] = [];
const closing: TestCells[] = [];
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(async () => {
  for (const server of servers) server.close();
  for (const cells of closing) cells.close();
  await clickhouse.stop();
});

interface Setup {
  readonly database: string;
  readonly rolling: TestRoller;
  readonly cells: TestCells;
  readonly memory: MetricsServer;
  readonly raw: MetricsServer;
}

async function setUp(
  options: {
    client?: ClickHouseClient;
    rollerClient?: ClickHouseClient;
    bytesMax?: number;
    leaveToOthersMs?: number;
  } = {},
): Promise<Setup> {
  const database = await clickhouse.newDatabase();
  const { client } = clickhouse;
  const rolling = newRoller(options.rollerClient ?? client, database, {
    leaveToOthersMs: options.leaveToOthersMs ?? 0,
    identities: 100,
    identitySteps: 1,
    identitiesOfSecond: 0,
    users: 10,
  });
  const cells = cellsFollowing(rolling.roller, options.client ?? client, database, options.bytesMax);
  closing.push(cells);
  const memory = serveMetrics({ client, database, rollups: () => 'ready', cells });
  const raw = serveMetrics({ client, database });
  servers.push(memory, raw);
  return { database, rolling, cells, memory, raw };
}

async function same({ memory, raw }: Setup, question: Record<string, string>): Promise<void> {
  const [answer, expected] = [await memory.get(question), await raw.get(question)];
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual({ ...answer.body, as_of: 0 }, { ...expected.body, as_of: 0 }, JSON.stringify(question));
}

async function sameMany(setup: Setup, dice: Dice, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) await same(setup, dice.question());
}

async function roll({ database, rolling }: Setup, rows: Parameters<typeof ship>[2]): Promise<void> {
  rolling.roller.offer(await ship(clickhouse.client, database, rows));
  await settle(rolling);
}

test('hundreds of questions have the same answers out of memory as from raw rows, while late and changed events are rolled', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const setup = await setUp();
  const rows = dice.events(1500);
  for (let at = 0; at < rows.length; at += 250) {
    await roll(setup, rows.slice(at, at + 250));
    await sameMany(setup, dice, 12);
  }
  // Days with changed events are made anew, and not asked of memory any more: one more that has none.
  const fresh = dice.events(300).map((row, i) => ({ ...row, ts: row.ts + 10 * DAY_MS, event_id: eventId(i) }));
  for (const at of [0, 100, 200]) {
    await roll(setup, fresh.slice(at, at + 100));
    for (const group_by of GROUPINGS) {
      const from = `${(FIRST_DAY + 8 * DAY_MS) / 1000 + dice.below(3 * 86_400)}`;
      await same(setup, { event_name: '*', from, ...(group_by.length > 0 && { group_by: group_by.join(',') }) });
      await same(setup, {
        event_name: 'view',
        from,
        channel: 'web',
        ...(group_by.length > 0 && { group_by: group_by.join(',') }),
      });
    }
  }
  const { fromCells, fromRollups, fromRaw, misses } = setup.memory.tally;
  t.diagnostic(
    `from memory ${fromCells}, ClickHouse ${fromRollups}, raw ${JSON.stringify([...fromRaw])}, ${JSON.stringify([...misses])}`,
  );
  assert.ok(fromCells > 100, `${fromCells}`);
  assert.ok((fromRaw.get('exception') ?? 0) + fromRollups > 0, 'no changed event was met');
  assert.deepEqual(setup.cells.failures, []);
});

function eventId(i: number): string {
  return `10000000-0000-4000-8000-${String(i).padStart(12, '0')}`;
}

test('what another roller has counted is not called rolled before memory knows of it', async () => {
  // This one has just committed, and does not ask whether others do.
  const setup = await setUp({ leaveToOthersMs: 60_000 });
  const { database, rolling } = setup;
  await roll(setup, [event({ user_id: 'anna' })]);
  await same(setup, { event_name: '*' });
  const batch = await ship(clickhouse.client, database, [event({ user_id: 'bert' })]);
  const other = newRoller(clickhouse.client, database);
  await settle(other);
  assert.ok(other.counters.get('rollCommits') > 0);
  rolling.roller.offer(batch);
  for (let steps = 0; !rolling.rolled.includes(batch.token); steps += 1) {
    assert.ok(steps < 100);
    await rolling.roller.step();
  }
  await same(setup, { event_name: '*' });
});

test('pages out of memory joined together are the answer without pages', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const setup = await setUp();
  const seen = new Set<string>();
  await roll(
    setup,
    dice.events(600).filter(({ event_id }) => !seen.has(event_id) && seen.add(event_id)),
  );
  for (const group_by of GROUPINGS.slice(1)) {
    const question = { event_name: '*', group_by: group_by.join(',') };
    const groups: unknown[] = [];
    let cursor: string | null | undefined;
    do {
      const page: Record<string, string> = typeof cursor === 'string' ? { cursor } : {};
      const { body } = await setup.memory.get({ ...question, ...page, limit: `${5 + dice.below(40)}` });
      groups.push(...(body.data ?? []));
      cursor = body.next_cursor;
    } while (typeof cursor === 'string');
    assert.deepEqual(groups, (await setup.raw.get({ ...question, limit: '10000' })).body.data, group_by.join(','));
  }
  assert.ok(setup.memory.tally.fromCells > 50);
});

test('what is committed while cells are loaded is in them once', async () => {
  // Holds what was read back until more was committed: it is of before, or of after, never of both.
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const state = { hold: false, reads: 0 };
  const client = execProxy(async (_query, exec) => {
    state.reads += 1;
    const result = await exec();
    if (state.hold) await held;
    return result;
  });
  const setup = await setUp({ client });
  await roll(setup, [event(), event({ user_id: 'ben' })]);
  await same(setup, { event_name: '*' });
  assert.equal(setup.memory.tally.fromCells, 1);
  state.hold = true;
  state.reads = 0;
  const asked = setup.memory.get({ event_name: 'view', group_by: 'channel' });
  await until(() => state.reads > 0);
  await roll(setup, [event(), event({ user_id: 'cleo' }), event({ channel: 'push' })]);
  release();
  assert.deepEqual((await asked).body.data, [
    { group: 'web', total_events: 4, unique_users: 3 },
    { group: 'push', total_events: 1, unique_users: 1 },
  ]);
  state.hold = false;
  await same(setup, { event_name: 'view', group_by: 'channel' });
  await same(setup, { event_name: '*', group_by: 'hour' });
  assert.equal(setup.memory.tally.fromCells, 4);
});

test('a commit that cells were loaded with is not added to them when the roller tells of it', async () => {
  // The roller is held between its INSERT and hearing of it.
  const state = { hold: false, held: 0 };
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const client = execProxy(async (query, exec) => {
    const result = await exec();
    if (state.hold && !query.startsWith('INSERT') && query.includes('maxIf(commits')) {
      const { commits } = await commitsIn(setup.database);
      if (commits > 1) {
        state.held += 1;
        await released;
      }
    }
    return result;
  });
  const setup = await setUp({ rollerClient: client });
  await roll(setup, [event(), event({ user_id: 'ben' })]);
  await same(setup, { event_name: '*' });
  state.hold = true;
  setup.rolling.roller.offer(await ship(clickhouse.client, setup.database, [event({ user_id: 'cleo' })]));
  const settled = settle(setup.rolling);
  await until(() => state.held > 0);
  // These are loaded with the commit, those of the first question are not.
  const channels = async (): Promise<unknown> =>
    (await setup.memory.get({ event_name: 'view', group_by: 'channel' })).body.data;
  const three = [{ group: 'web', total_events: 3, unique_users: 3 }];
  assert.deepEqual(await channels(), three);
  state.hold = false;
  release();
  await settled;
  assert.deepEqual(await channels(), three);
  await same(setup, { event_name: '*' });
  assert.equal(setup.memory.tally.fromCells, 4);
});

async function commitsIn(database: string): Promise<{ commits: number }> {
  const query = `SELECT toUInt32(max(commits)) AS commits FROM ${tableName(database, 'rollup')} WHERE level = 0`;
  const result = await clickhouse.client.query({ query, format: 'JSONEachRow' });
  const [row] = await result.json<{ commits: number }>();
  return row ?? { commits: 0 };
}

type Exec = ClickHouseClient['exec'];

/** The client, with another `exec`. */
function execProxy(around: (query: string, exec: () => ReturnType<Exec>) => ReturnType<Exec>): ClickHouseClient {
  return new Proxy(clickhouse.client, {
    get(target, name, receiver) {
      if (name !== 'exec') return Reflect.get(target, name, receiver) as unknown;
      return (...args: Parameters<Exec>) => around(args[0].query, () => target.exec(...args));
    },
  });
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, 'waited for 20 s');
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

test('when another roller commits, nothing is answered out of memory before this one has taken over', async () => {
  const setup = await setUp();
  await roll(setup, [event()]);
  await same(setup, { event_name: '*' });
  assert.equal(setup.memory.tally.fromCells, 1);

  const { client } = clickhouse;
  const other = newRoller(client, setup.database);
  const batch = await ship(client, setup.database, [event({ user_id: 'ben' })]);
  other.roller.offer(batch);
  await settle(other);
  // Ours hears of the batch, and that somebody has rolled it.
  setup.rolling.roller.offer(batch);
  await setup.rolling.roller.step();
  assert.equal(setup.cells.mirror.bytes, 0);
  await same(setup, { event_name: '*' });
  await roll(setup, [event({ user_id: 'cleo' })]);
  const { fromCells } = setup.memory.tally;
  await same(setup, { event_name: '*' });
  await same(setup, { event_name: '*', group_by: 'event_name,hour' });
  assert.equal(setup.memory.tally.fromCells, fromCells + 2);
});

test('a roller that stalls before it knows of another one’s commit keeps its as_of behind that too', async () => {
  const setup = await setUp();
  await roll(setup, [event()]);
  const { client } = clickhouse;
  const asked: number[] = [];
  setup.rolling.rolled.length = 0;
  const batch = await ship(client, setup.database, [event({ user_id: 'ben' })]);
  const other = newRoller(client, setup.database);
  other.roller.offer(batch);
  await settle(other);
  setup.rolling.roller.offer(batch);
  while (!setup.rolling.rolled.includes(batch.token)) await setup.rolling.roller.step();
  const { body } = await setup.memory.get({ event_name: '*' });
  asked.push(body.total_events ?? 0);
  assert.deepEqual(asked, [2]);
});

test('cells beyond their memory go, and answers stay right', async (t) => {
  const dice = seededDice((message) => t.diagnostic(message));
  const bytesMax = 200_000;
  const setup = await setUp({ bytesMax });
  const seen = new Set<string>();
  const rows = dice.events(800).filter(({ event_id }) => !seen.has(event_id) && seen.add(event_id));
  await roll(setup, rows.slice(0, 300));
  for (const at of [300, 450]) {
    await sameMany(setup, dice, 30);
    assert.ok(setup.cells.mirror.bytes <= bytesMax, `${setup.cells.mirror.bytes}`);
    await roll(setup, rows.slice(at, at + 150));
    assert.ok(setup.cells.mirror.bytes <= bytesMax, `${setup.cells.mirror.bytes}`);
  }
  t.diagnostic(JSON.stringify([setup.memory.tally.fromCells, ...setup.memory.tally.misses]));
  assert.ok(setup.memory.tally.fromCells > 0);
});

test('an event that changes is not answered out of memory from the commit on that it is in', async () => {
  const setup = await setUp();
  const first = event({ user_id: 'anna' });
  await roll(setup, [first, event({ user_id: 'ben' })]);
  await same(setup, { event_name: '*' });
  // The watch has looked a moment ago: only the roller can tell.
  setup.rolling.roller.offer(await ship(clickhouse.client, setup.database, [again(first, { user_id: 'ben' })]));
  await setup.rolling.roller.step();
  const { body } = await setup.memory.get({ event_name: '*' });
  assert.deepEqual([body.total_events, body.unique_users], [2, 1]);
  await settle(setup.rolling);
  await same(setup, { event_name: '*' });
  await same(setup, { event_name: 'view', group_by: 'hour' });
});

test('a question that needs more cells than are kept is answered by ClickHouse', async () => {
  const setup = await setUp();
  await roll(setup, [event({ ts: Date.UTC(1980, 0, 2) }), event()]);
  await same(setup, { event_name: '*', group_by: 'hour' });
  assert.equal(setup.memory.tally.misses.get('large'), 1);
  await same(setup, { event_name: '*', group_by: 'day' });
  const question: MetricsQuestion = {
    eventName: undefined,
    from: undefined,
    to: undefined,
    channel: undefined,
    groupBy: ['day'],
    limit: 10,
    after: undefined,
  };
  // 17 000 days are known to be empty when they have been read.
  await until(() => setup.cells.mirror.bytes > 1_000_000);
  assert.equal(typeof (await setup.cells.ask(question, 0, 10_000)), 'object');
});

test('a cells thread that ends costs no answer', async () => {
  const nodeArgs = ['--import', new URL('../support/thread-killer.js', import.meta.url).href];
  const service = await Service.start({ nodeArgs, env: { FAULT_THREAD: 'cells', FAULT_STEPS: '2' } });
  try {
    assertAccepted(await postEvent(service, eventBody({ user_id: 'anna' })));
    assertAccepted(await postEvent(service, eventBody({ user_id: 'ben' })));
    await settledInRollups(service);
    const ended = (): boolean =>
      service.lines.some(
        ({ thread, level, msg }) => thread === 'main' && level === 'error' && /metrics/.test(String(msg)),
      );
    for (let i = 0; i < 200 && !ended(); i += 1) {
      const group_by = GROUPINGS[i % GROUPINGS.length] ?? [];
      const { status, body } = await metrics(service, {
        event_name: '*',
        ...(group_by.length > 0 && { group_by: group_by.join(',') }),
      });
      assert.equal(status, 200);
      const [total] = body.data ?? [body];
      assert.deepEqual([total?.total_events, total?.unique_users], [2, 2]);
    }
    assert.ok(ended(), 'the thread never ended');
    assert.equal((await metrics(service, { event_name: '*' })).body.unique_users, 2);
    assert.equal(await service.stop(), 0);
  } finally {
    await service.dispose();
  }
});
