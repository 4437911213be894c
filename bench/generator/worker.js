/**
 * A generator thread: its share of the connections and of the rate, through the phases of a plan.
 *
 * Closed loop (rate 0): a connection sends its next request when it has the answer to the one before. Open loop: requests are
 * due at times that the rate sets, whether or not the service keeps up; one that finds no free connection waits for it, and
 * its latency counts from the time it was due (no coordinated omission). Latency from the actual sending, and how late the
 * sending was, are kept beside it, so that it shows what was the generator's.
 */
import { createHistogram } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import { eventTexts } from './payload.js';
import { Lane } from './lane.js';
import { COUNT, HISTOGRAM, nowMs, TICK_SLOT } from './shared.js';

/** @type {import('../harness/load.js').GeneratorPlan} */
const plan = workerData;
const counts = new Float64Array(plan.counts);
const ticks = new Int32Array(plan.ticks);
const phases = plan.phases.map((phase) => ({
  ...phase,
  latency: createHistogram(HISTOGRAM),
  service: createHistogram(HISTOGRAM),
  lag: createHistogram(HISTOGRAM),
  requests: 0,
  events: 0,
  refused: 0,
  failed: 0,
  sent: 0,
}));
/** Answers that must not come, by their text, and how often. */
const failures = new Map();
const forGood = [];
const free = [];
const resting = new Set();
const lanes = [];

let next = plan.firstNumber;
let acknowledged = 0;
let duplicates = 0;
let repeats = 0;
let due = 0;
let current = 0;
/** Waits for the pacer's next tick. */
let paced = false;
let ending = false;
let endByMs = 0;

function phaseAt(ms) {
  while (current < phases.length && ms >= phases[current].endMs) {
    current += 1;
    due = 0;
  }
  return phases[current];
}

/** When the next request of the phase is due. */
function dueMs(phase) {
  return phase.startMs + ((due + plan.index / plan.threads) * 1000 * plan.threads) / phase.rate;
}

/** Sends what is due, as far as connections are free. */
function sendDue() {
  const now = nowMs();
  while (free.length > 0 && !ending) {
    const phase = phases[current];
    if (phase === undefined || (plan.total > 0 && next - plan.firstNumber >= plan.total)) return end();
    if (phase.rate === 0) {
      if (now < phase.startMs) return;
      if (now >= phase.endMs) phaseAt(now);
      else start(free.pop(), now, current);
      continue;
    }
    const at = dueMs(phase);
    if (at >= phase.endMs) {
      phaseAt(at);
      continue;
    }
    if (at > now) return;
    due += 1;
    start(free.pop(), at, current);
  }
}

function start(lane, intendedMs, phase) {
  if (lane.acknowledged && plan.duplicates > 0 && Math.random() < plan.duplicates) {
    duplicates += 1;
  } else {
    lane.renew(next);
    next += plan.batch;
  }
  lane.send(intendedMs, phase);
  phases[phase].sent += 1;
  phases[phase].lag.record(micros(lane.sentMs - intendedMs));
}

function onAnswer(lane, { status, accepted, retryAfterS, start: text }) {
  const now = nowMs();
  const phase = phases[lane.phase];
  if (status === 202 && !(accepted !== plan.batch && !Number.isNaN(accepted))) {
    if (!lane.acknowledged) acknowledged += plan.batch;
    lane.acknowledged = true;
    lane.settled = true;
    count(phase, 'requests', COUNT.requests, 1);
    count(phase, 'events', COUNT.events, plan.batch);
    phase.latency.record(micros(now - lane.intendedMs));
    phase.service.record(micros(now - lane.sentMs));
    release(lane);
  } else if (status === 503 || status === 429) {
    count(phase, 'refused', COUNT.refused, 1);
    again(lane, plan.retry === 'honour' ? Math.max(1, retryAfterS) * 1000 : 0);
  } else {
    fail(phase, `${status} ${text}`);
    lane.settled = true;
    lane.acknowledged = false;
    forGood.push(lane.first);
    release(lane);
  }
}

function onLost(lane, why) {
  counts[COUNT.lost] += 1;
  fail(phases[lane.phase], why);
  again(lane, 20);
}

/** The same body once more, after a rest. */
function again(lane, restMs) {
  repeats += 1;
  if (ending && nowMs() + restMs > endByMs) return;
  if (restMs === 0) return resend(lane);
  resting.add(setTimeout(() => resend(lane), restMs));
}

function resend(lane) {
  // It was due when it was due: refusals are part of its latency.
  lane.send(lane.intendedMs, lane.phase);
}

function release(lane) {
  free.push(lane);
  if (ending) return finishIfQuiet();
  goOn();
}

function fail(phase, what) {
  count(phase, 'failed', COUNT.failed, 1);
  if (failures.size < 20 || failures.has(what)) failures.set(what, (failures.get(what) ?? 0) + 1);
}

function count(phase, name, slot, by) {
  phase[name] += by;
  counts[slot] += by;
}

function micros(ms) {
  return Math.min(HISTOGRAM.highest, Math.max(1, Math.round(ms * 1000)));
}

/** No new requests; those without an answer get time for one. */
function end() {
  if (ending) return;
  ending = true;
  endByMs = nowMs() + plan.graceMs;
  setTimeout(finish, plan.graceMs);
  finishIfQuiet();
}

function finishIfQuiet() {
  if (free.length === lanes.length) finish();
}

function finish() {
  const unsettled = lanes.filter((lane) => !lane.settled).map((lane) => lane.first);
  for (const timer of resting) clearTimeout(timer);
  for (const lane of lanes) lane.close();
  parentPort.postMessage({
    type: 'result',
    numbers: { from: plan.firstNumber, to: next, acknowledged, unsettled, forGood },
    duplicates,
    repeats,
    failures: [...failures],
    phases: phases.map((phase) => ({ ...phase, unsent: unsentOf(phase) })),
  });
  process.exit(0);
}

/** Requests that were due and never found a free connection. */
function unsentOf({ rate, seconds, sent }) {
  return rate === 0 || plan.total > 0 ? 0 : Math.max(0, Math.floor((rate / plan.threads) * seconds) - sent);
}

/**
 * Sends what is due, and waits for the pacer's next tick while there is a connection to send on: where all are busy, an answer is what is
 * waited for, and ticks would take the processor from the service.
 */
function goOn() {
  sendDue();
  if (paced || free.length === 0) return;
  const seen = Atomics.load(ticks, TICK_SLOT.tick);
  const wait = Atomics.waitAsync(ticks, TICK_SLOT.tick, seen);
  paced = true;
  if (wait.async) void wait.value.then(onTick);
  else setImmediate(onTick);
}

function onTick() {
  paced = false;
  if (!ending) goOn();
}

const texts = eventTexts(plan.payload, plan.tag);
for (let i = 0; i < plan.connections; i += 1) lanes.push(new Lane({ ...plan, texts }, { onAnswer, onLost }));
await Promise.all(lanes.map((lane) => lane.open()));
free.push(...lanes);
parentPort.postMessage({ type: 'ready' });
parentPort.once('message', ({ startMs }) => {
  let at = startMs;
  for (const phase of phases) {
    phase.startMs = at;
    at += phase.seconds * 1000;
    phase.endMs = at;
  }
  // The plan's end is noticed also when no connection is free.
  setTimeout(end, at - nowMs() + (phases.at(-1).rate === 0 ? 0 : plan.backlogMs));
  onTick();
});
