import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RecentKeys } from '../../../../src/workers/roller/recent-keys.js';
import { tries } from '../../../support/property.js';
import { type Key, randomKeys } from '../../../support/random-keys.js';

const ROOM = 1 << 12;
const FEW = randomKeys(40);

function add(memory: RecentKeys, key: Key, value: number): void {
  memory.find(...key);
  memory.add(...key, value, value % 7);
}

/** What a memory was given: of each key, what was added last and when. */
class Model {
  readonly added = new Map<string, { at: number; value: number }>();
  keys = 0;
  /** What was added before may be forgotten. */
  sure = 0;

  add(key: Key, value: number): void {
    this.added.set(String(key), { at: this.keys, value });
    this.keys += 1;
  }
}

function check(memory: RecentKeys, model: Model, key: Key): void {
  const known = model.added.get(String(key));
  const found = memory.find(...key);
  if (found) {
    assert.ok(known !== undefined, 'found and never added');
    assert.deepEqual([memory.value, memory.tag], [known.value, known.value % 7]);
    assert.equal(memory.position - memory.foundAt, model.keys - known.at);
  } else assert.ok(known === undefined || known.at < model.sure, 'added and not found');
}

test('what is found is what was added last, and what a step found stays while it adds what it said', () => {
  const step = fc.tuple(fc.constantFrom(0, 1, 30, 1_000, 5_000, 20_000), fc.boolean(), fc.nat(1_000_000));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.constantFrom(1, 4), (steps, stepsMin) => {
      const memory = new RecentKeys(ROOM, stepsMin);
      const model = new Model();
      for (const [rows, isForgotten, seed] of steps) {
        memory.beginStep(rows);
        const known = FEW.filter((key) => memory.find(...key));
        if (isForgotten) memory.clear();
        // Everything that is found now, and everything that this step adds.
        model.sure = model.keys;
        for (let i = 0; i < rows; i += 1) {
          const [key] = i % 3 === 0 ? [FEW[(seed + i) % FEW.length]] : randomKeys(1);
          assert.ok(key !== undefined);
          add(memory, key, seed + i);
          model.add(key, seed + i);
        }
        for (const key of FEW) check(memory, model, key);
        if (!isForgotten) for (const key of known) assert.ok(memory.find(...key));
      }
    }),
    tries<unknown>(60),
  );
});

test('everything from a position on is there while it says so, and it says so for all steps but one that it has room for', () => {
  const stepsMin = 4;
  const rows = 10_000;
  const memory = new RecentKeys(ROOM, stepsMin);
  const keys = randomKeys(rows * 8);
  const first = memory.position;
  for (let step = 0; step < 8; step += 1) {
    memory.beginStep(rows);
    const since = memory.position - (stepsMin - 1) * rows;
    assert.ok(memory.remembers(Math.max(first, since)));
    assert.ok(!memory.remembers(since - rows));
    for (const [i, key] of keys.slice(step * rows, (step + 1) * rows).entries()) add(memory, key, i);
    const kept = keys.slice(Math.max(0, (step - stepsMin + 2) * rows), (step + 1) * rows);
    assert.equal(kept.filter((key) => memory.find(...key)).length, kept.length);
  }
});

test('it has room for eight steps within its bound, for as many as it must beyond, and takes no more memory than that', () => {
  const memory = new RecentKeys(100_000, 2);
  const bytes = memory.bytes;
  memory.beginStep(100);
  assert.equal(memory.bytes, bytes);
  memory.beginStep(5_000);
  assert.ok(memory.bytes >= 40_000 * 30 && memory.bytes < 50_000 * 37);
  memory.beginStep(50_000);
  assert.ok(memory.bytes >= 100_000 * 30 && memory.bytes < 115_000 * 37);
  memory.beginStep(500_000);
  assert.ok(memory.bytes >= 1_000_000 * 30 && memory.bytes < 1_150_000 * 37);
  memory.beginStep(500_000, 600_000);
  assert.ok(memory.bytes >= 1_600_000 * 30 && memory.bytes < 1_850_000 * 37);
});

test('as many earlier keys as a step asked for are there until it ends', () => {
  const memory = new RecentKeys(1_000, 1);
  const keys = randomKeys(30_000);
  const since = memory.position;
  for (let step = 0; step < 3; step += 1) {
    memory.beginStep(10_000, 20_000);
    for (const [i, key] of keys.slice(step * 10_000, (step + 1) * 10_000).entries()) add(memory, key, i);
  }
  assert.ok(memory.remembers(since));
  assert.ok(keys.every((key) => memory.find(...key)));
});

test('what was forgotten is not found, though its place was not written over', () => {
  const memory = new RecentKeys(ROOM, 1);
  const [one, other] = randomKeys(2);
  assert.ok(one !== undefined && other !== undefined);
  const { position } = memory;
  add(memory, one, 1);
  assert.ok(memory.find(...one) && memory.remembers(position));
  memory.clear();
  assert.ok(!memory.find(...one) && !memory.remembers(position));
  add(memory, other, 2);
  assert.ok(!memory.find(...one) && memory.find(...other));
  memory.beginStep(ROOM);
  assert.ok(!memory.find(...one));
});

test('keys that differ in one word only do not get in each other’s way', () => {
  const memory = new RecentKeys(100_000, 1);
  memory.beginStep(100_000);
  for (let i = 0; i < 100_000; i += 1) add(memory, [7, 7, 7, i], i);
  for (let i = 0; i < 100_000; i += 1) assert.ok(memory.find(7, 7, 7, i) && memory.value === i);
  assert.ok(!memory.find(7, 7, 7, 100_000));
});
