import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { shutDown, type ShutdownSteps } from '../../../src/main/shutdown.js';
import { silentLog } from '../../support/clickhouse.js';

interface Step {
  readonly name: string;
  readonly atMs: number;
}

interface Scenario {
  readonly drainDelayMs?: number;
  readonly drainTimeoutMs?: number;
  /** Requests that are open, by the time on the clock. */
  readonly openAt?: (ms: number) => number;
  /** What becomes of a step; done at once where it is not named. */
  readonly steps?: Partial<Record<'stopEncoders' | 'drainLog' | 'drainShipper' | 'closeRest', 'hangs' | 'fails'>>;
}

const ORDER = ['startDraining', 'refuseNew', 'stopEncoders', 'drainLog', 'drainShipper', 'closeRest'];

/** Runs a shutdown on a clock of its own, a millisecond a turn. */
async function run(
  t: TestContext,
  { drainDelayMs = 0, drainTimeoutMs = 8000, openAt = () => 0, steps = {} }: Scenario,
) {
  let nowMs = 0;
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const clock = t.mock.method(performance, 'now', () => nowMs);
  const seen: Step[] = [];
  let shipMs = -1;
  let givenUp = false;
  const note = (name: string): void => void seen.push({ name, atMs: nowMs });
  const act = (name: keyof NonNullable<Scenario['steps']>) => (): Promise<void> => {
    note(name);
    if (steps[name] === 'fails') return Promise.reject(new Error(`${name} fails`));
    return steps[name] === 'hangs' ? new Promise(() => undefined) : Promise.resolve();
  };
  const all: ShutdownSteps = {
    startDraining: () => note('startDraining'),
    refuseNew: () => note('refuseNew'),
    openRequests: () => (givenUp ? 0 : openAt(nowMs)),
    giveUpOpen() {
      note('giveUpOpen');
      givenUp = true;
    },
    stopEncoders: act('stopEncoders'),
    drainLog: act('drainLog'),
    drainShipper(timeoutMs) {
      shipMs = timeoutMs;
      return act('drainShipper')();
    },
    closeRest: act('closeRest'),
  };
  const state = { ended: false };
  const done = shutDown(all, { drainDelayMs, drainTimeoutMs, log: silentLog }).finally(() => (state.ended = true));
  while (!state.ended && nowMs < 100_000) {
    await turn();
    if (state.ended) break;
    nowMs += 1;
    t.mock.timers.tick(1);
  }
  await done;
  clock.mock.restore();
  t.mock.timers.reset();
  return {
    names: seen.map(({ name }) => name),
    at: (name: string) => seen.find((step) => step.name === name)?.atMs ?? -1,
    endMs: nowMs,
    shipMs,
  };
}

test('the parts stop in order, each when the one before has', async (t) => {
  const { names, endMs, shipMs } = await run(t, {});
  assert.deepEqual(names, ORDER);
  assert.ok(endMs <= 1, String(endMs));
  assert.ok(shipMs > 7990);
});

test('readiness turns at once, and nothing is refused before the delay has passed', async (t) => {
  const { at } = await run(t, { drainDelayMs: 300 });
  assert.equal(at('startDraining'), 0);
  assert.equal(at('refuseNew'), 300);
});

test('requests that are open are waited for, and what they leave of the time is the shipper’s', async (t) => {
  const { names, at, shipMs } = await run(t, { drainTimeoutMs: 1000, openAt: (ms) => (ms < 200 ? 3 : 0) });
  assert.deepEqual(names, ORDER);
  assert.ok(at('stopEncoders') >= 200 && at('stopEncoders') < 210);
  assert.ok(shipMs <= 800 && shipMs > 780);
});

test('requests that never end are refused while there is time left to ship', async (t) => {
  const { names, at, shipMs } = await run(t, { drainTimeoutMs: 1000, openAt: () => 1 });
  assert.deepEqual(names, ORDER.toSpliced(2, 0, 'giveUpOpen'));
  assert.ok(at('giveUpOpen') >= 600 && at('giveUpOpen') < 610);
  assert.ok(shipMs > 380);
});

test('a part that hangs or fails does not keep the others from stopping, nor the process from ending', async (t) => {
  for (const name of ['stopEncoders', 'drainLog', 'drainShipper', 'closeRest'] as const) {
    for (const fate of ['hangs', 'fails'] as const) {
      const { names, endMs } = await run(t, { drainTimeoutMs: 500, steps: { [name]: fate } });
      assert.deepEqual(names, ORDER, `${name} ${fate}`);
      assert.ok(endMs <= (fate === 'fails' ? 1 : 6001), `${name} ${fate}: ${endMs}`);
    }
  }
});

test('no time to ship is none, not less', async (t) => {
  const { shipMs } = await run(t, { drainTimeoutMs: 100, steps: { stopEncoders: 'hangs' } });
  assert.equal(shipMs, 0);
});
