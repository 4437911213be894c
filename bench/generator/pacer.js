/**
 * The clock of an open loop. Timers of an event loop are a millisecond coarse, as long as what is measured, and spinning
 * takes a core from the service. This thread sleeps exactly (a futex with a timeout, good to about 60 µs) and wakes the
 * generators, at the very times at which requests are due where the rate allows it, and less often while none of them waits for it.
 */
import { workerData } from 'node:worker_threads';
import { nowMs, TICK_SLOT, TICKS } from './shared.js';

const { memory, periodMs, startMs } = workerData;
const cells = new Int32Array(memory);
const sleep = new Int32Array(new SharedArrayBuffer(4));

let tick = 0;
let step = 1;
while (Atomics.load(cells, TICK_SLOT.stop) === 0) {
  tick += step;
  const left = startMs + tick * periodMs - nowMs();
  if (left > 0) Atomics.wait(sleep, 0, 0, left);
  else if (left < -TICKS.skipMs) tick -= Math.floor(left / periodMs);
  Atomics.add(cells, TICK_SLOT.tick, 1);
  const woken = Atomics.notify(cells, TICK_SLOT.tick);
  step = woken > 0 ? 1 : Math.min(step + 1, Math.ceil(TICKS.unheardMs / periodMs));
}
