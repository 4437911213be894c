import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Counter, Counters, createCounters } from '../../../src/shared/counters.js';
import { tries } from '../../support/property.js';

const NAMES: readonly Counter[] = [
  'walBytesAppended',
  'walCommitSeconds',
  'walBytesFreed',
  'shipState',
  'acceptedEvents',
  'encoderDeaths',
];

test('counters are apart from one another, and every view of the memory sees the same', () => {
  const step = fc.record({
    name: fc.constantFrom(...NAMES),
    adds: fc.boolean(),
    value: fc.integer({ min: -1e9, max: 1e12 }),
  });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const memory = createCounters();
      const writer = new Counters(memory);
      const reader = new Counters(memory);
      const model = new Map<Counter, number>();
      for (const { name, adds, value } of steps) {
        if (adds) writer.add(name, value);
        else writer.set(name, value);
        model.set(name, adds ? (model.get(name) ?? 0) + value : value);
        for (const each of NAMES) assert.equal(reader.get(each), model.get(each) ?? 0);
      }
    }),
    tries(100),
  );
});

test('a counter counts every single event up to 2^53', () => {
  const counters = new Counters(createCounters());
  counters.set('acceptedEvents', 2 ** 53 - 2);
  counters.add('acceptedEvents', 1);
  assert.equal(counters.get('acceptedEvents'), 2 ** 53 - 1);
});
