import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { ClickHouseClient } from '@clickhouse/client';
import type { RollerLimits } from '../../src/workers/roller/roller-limits.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { type EventRow, randomFrom } from '../support/metrics-model.js';
import { insertRows } from '../support/metrics-server.js';
import { again, event, newRoller, settle, ship, type TestRoller } from '../support/rolling.js';
import { rollupFaults } from '../support/rollup-check.js';

/** Invariant 3 in the rollup, by chance: whatever fails, dies or is forgotten, every cell equals the raw rows. */

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

/** Small enough to be forgotten all the time. */
const FORGETFUL: Partial<RollerLimits> = {
  identities: 30,
  identitySteps: 1,
  identitiesOfSecond: 0,
  users: 5,
  leaveToOthersMs: 0,
  windowRows: 60,
};

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
    // Enough in one hour for sets of their own.
    const busy = this.#random() < 0.3;
    return Array.from({ length: count }, () => {
      const old = this.#known[this.#pick(this.#known.length)];
      if (old !== undefined && this.#random() < 0.3) {
        const fate = this.#random();
        if (fate < 0.03) return again(old, { user_id: `user ${this.#pick(25)}` });
        if (fate < 0.06) return again(old, { channel: ['web', 'api', 'push'][this.#pick(3)] ?? 'web' });
        return again(old);
      }
      const row = event({
        event_name: ['view', "bu'y\\", '💧'][this.#pick(busy ? 1 : 3)] ?? 'view',
        channel: ['web', 'api', 'push'][this.#pick(busy ? 1 : 3)] ?? 'web',
        user_id: `user ${this.#pick(25)}`,
        ts: Date.now() - this.#pick(busy || this.#random() < 0.5 ? 3 : 4_000) * 60_000 - this.#pick(50_000),
      });
      this.#known.push(row);
      return row;
    });
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }
}

const ROUNDS = Number(process.env['ROLL_ROUNDS'] ?? 2);

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
      const batch = await ship(clickhouse.client, database, world.rows(1 + Math.floor(random() * 120)));
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
    assert.deepEqual(await rollupFaults(clickhouse.client, database), [], `TEST_SEED=${seed}`);
    const shared = await clickhouse.client.query({
      query: `SELECT uid FROM ${database}.rollup_users GROUP BY uid HAVING count() > 1`,
      format: 'JSONEachRow',
    });
    assert.deepEqual(await shared.json(), [], 'numbers that two users have');
  }
});
