import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UserCache } from '../../../../src/workers/roller/user-cache.js';
import { tries } from '../../../support/property.js';
import { randomKeys } from '../../../support/random-keys.js';

const word = fc.constantFrom(0, 1, 2, 0xffffffff);

test('what is found is what was added last with that key, whatever was forgotten', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.tuple(word, word, word, word), fc.nat(), fc.boolean()), { maxLength: 200 }),
      fc.constantFrom(1, 8, 64, 4_096),
      (steps, room) => {
        const cache = new UserCache(room);
        const added = new Map<string, number>();
        for (const [key, value, isLook] of steps) {
          if (isLook) {
            if (cache.find(...key)) assert.equal(cache.value, added.get(String(key)));
            else assert.ok(!added.has(String(key)) || added.size > Math.min(room, 16));
            continue;
          }
          cache.add(...key, value);
          added.set(String(key), value);
          assert.ok(cache.find(...key));
          assert.equal(cache.value, value);
          assert.ok(cache.size <= added.size);
        }
      },
    ),
    tries<unknown>(500),
  );
});

test('it grows up to its bound and no further, and keeps nearly all that it has room for', () => {
  const room = 1 << 16;
  const cache = new UserCache(room);
  const keys = randomKeys(room * 3);
  for (const [i, key] of keys.entries()) {
    cache.add(...key, i);
    if (i === room / 2) assert.ok(keys.slice(0, i).filter((each) => cache.find(...each)).length > i * 0.995);
  }
  assert.ok(cache.size <= room && cache.size > room * 0.99);
  assert.equal(cache.bytes, room * 22);
  let right = 0;
  for (const [i, key] of keys.entries()) if (cache.find(...key) && cache.value === i) right += 1;
  assert.equal(right, cache.size);
});

test('who is offered is taken while nobody has to go for him, and once', () => {
  const room = 1 << 12;
  const cache = new UserCache(room);
  const keys = randomKeys(room * 2);
  const taken = new Map<string, number>();
  for (const [i, key] of keys.entries()) {
    cache.offer(...key, i);
    if (cache.find(...key)) taken.set(String(key), i);
  }
  assert.ok(taken.size > room * 0.95 && taken.size === cache.size);
  const { size } = cache;
  for (const [i, key] of keys.entries()) {
    cache.offer(...key, -1);
    if (!taken.has(String(key))) continue;
    assert.ok(cache.find(...key), 'another was taken for it');
    assert.equal(cache.value, i);
  }
  assert.ok(cache.size <= room && cache.size >= size);
});

test('who is met again and again stays, while others come and go', () => {
  const room = 1 << 12;
  const cache = new UserCache(room);
  const regulars = randomKeys(room / 4);
  for (const [i, key] of regulars.entries()) cache.add(...key, i);
  let missed = 0;
  for (let round = 0; round < 20; round += 1) {
    for (const [i, key] of regulars.entries()) {
      if (cache.find(...key)) continue;
      missed += 1;
      cache.add(...key, i);
    }
    for (const key of randomKeys(room / 4)) cache.add(...key, 0);
  }
  // About 1 100; without an eye on who was met, 4 700.
  assert.ok(missed < 2_500, `${missed} of ${regulars.length * 20} missed`);
});
