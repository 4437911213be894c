/**
 * The clock of an open loop. Timers of an event loop are a millisecond coarse, as long as what is measured, and spinning
 * takes a core from the service. This thread sleeps exactly (a futex with a timeout, good to about 60 µs) and wakes the generators.
 */
import { workerData } from 'node:worker_threads';
import { TICKS, TICK_SLOT } from './shared.js';

const { memory, periodMs } = workerData;
const cells = new Int32Array(memory);
const sleep = new Int32Array(new SharedArrayBuffer(4));

let next = performance.now();
while (Atomics.load(cells, TICK_SLOT.stop) === 0) {
  next += periodMs;
  const left = next - performance.now();
  if (left > 0) Atomics.wait(sleep, 0, 0, left);
  else if (left < -TICKS.skipMs) next = performance.now();
  Atomics.add(cells, TICK_SLOT.tick, 1);
  Atomics.notify(cells, TICK_SLOT.tick);
}
