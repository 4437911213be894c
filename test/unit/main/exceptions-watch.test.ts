import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { ExceptionsWatch } from '../../../src/main/exceptions-watch.js';
import { EXCEPTIONS_FRESH_MS } from '../../../src/shared/metrics/exceptions.js';

const { signal } = new AbortController();

/** A watch whose time and ClickHouse are in hand. */
function watched(): { watch: ExceptionsWatch; state: { fingerprint: string; asked: number; fails: boolean } } {
  const state = { fingerprint: 'one', asked: 0, fails: false };
  const watch = new ExceptionsWatch(() => {
    state.asked += 1;
    return state.fails ? Promise.reject(new Error('away')) : Promise.resolve(state.fingerprint);
  });
  return { watch, state };
}

test('between two looks, nothing is asked; a look that is too old is made again', async (t) => {
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  const { watch, state } = watched();
  assert.equal(await watch.isCurrent('one', 0, signal), true);
  now = EXCEPTIONS_FRESH_MS;
  assert.equal(await watch.isCurrent('one', 0, signal), true);
  assert.equal(state.asked, 1);
  state.fingerprint = 'two';
  now += 1;
  assert.equal(await watch.isCurrent('one', 0, signal), false);
  assert.equal(await watch.isCurrent('two', 0, signal), true);
  assert.equal(state.asked, 2);
});

test('an exception that the roller has written since is looked for at once', async (t) => {
  t.mock.method(performance, 'now', () => 0);
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  const { watch, state } = watched();
  await watch.isCurrent('one', 3, signal);
  state.fingerprint = 'two';
  assert.equal(await watch.isCurrent('one', 3, signal), true);
  assert.equal(await watch.isCurrent('one', 4, signal), false);
  assert.equal(await watch.isCurrent('two', 4, signal), true);
  assert.equal(state.asked, 2);
});

test('while there are questions it looks by itself, and rests without; a failure is told to the next question', async (t) => {
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  const { watch, state } = watched();
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 250) {
      now += 250;
      mock.timers.tick(250);
      for (let i = 0; i < 5; i += 1) await Promise.resolve();
    }
  };
  await watch.isCurrent('one', 0, signal);
  await pass(10_000);
  assert.ok(state.asked > 15 && state.asked < 25, `${state.asked}`);
  const { asked } = state;
  assert.equal(await watch.isCurrent('one', 0, signal), true);
  assert.equal(state.asked, asked);
  await pass(90_000);
  const rested = state.asked;
  await pass(20_000);
  assert.equal(state.asked, rested);
  state.fails = true;
  await assert.rejects(watch.isCurrent('one', 0, signal), /away/);
});
