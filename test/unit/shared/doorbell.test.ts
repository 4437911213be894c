import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDoorbell, Doorbell, Sleeper } from '../../../src/shared/doorbell.js';
import { runPeer } from '../../support/thread-peer.js';

test('two threads that wake each other in turn never miss a wake-up', async () => {
  const { seen, fault } = await runPeer({ kind: 'ping', rounds: 50_000 });
  assert.equal(fault, undefined, fault);
  assert.equal(seen, 50_000);
});

test('only who announced sleep is woken, and once however many ring', () => {
  const memory = createDoorbell();
  let woken = 0;
  const bells = [1, 2, 3].map(() => new Doorbell(memory, () => (woken += 1)));
  const sleeper = new Sleeper(memory);
  for (const bell of bells) bell.ring();
  assert.equal(woken, 0);
  sleeper.prepare();
  for (const bell of bells) bell.ring();
  assert.equal(woken, 1);
  sleeper.prepare();
  sleeper.stayAwake();
  for (const bell of bells) bell.ring();
  assert.equal(woken, 1);
});

test('a bell that rang between the announcement and the sleep ends the sleep at once', () => {
  const memory = createDoorbell();
  const sleeper = new Sleeper(memory);
  const bell = new Doorbell(memory);
  for (let round = 0; round < 1000; round += 1) {
    sleeper.prepare();
    bell.ring();
    // For ever, if it were missed.
    sleeper.sleep(Infinity);
  }
});

test('a sleep that nobody ends has its time, and its owner is awake then', () => {
  const memory = createDoorbell();
  const sleeper = new Sleeper(memory);
  let woken = 0;
  sleeper.prepare();
  sleeper.sleep(1);
  new Doorbell(memory, () => (woken += 1)).ring();
  assert.equal(woken, 0);
});
