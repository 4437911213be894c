/**
 * Runs a plan of load against a service: generator threads, the pacer, progress, and a look at the service's CPU at the borders of
 * each measured phase, so that rate and CPU belong to the same span and warm-up to neither.
 */
import { createHistogram } from 'node:perf_hooks';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { eventNames, userOf } from '../generator/payload.js';
import { COUNT, HISTOGRAM, nowMs, TICK_SLOT, TICKS } from '../generator/shared.js';
import { machineCpuMs } from './processes.js';
import { progress } from './progress.js';

/**
 * @typedef {object} Phase
 * @property {string} name
 * @property {number} seconds
 * @property {number} rate requests/s of all threads; 0 = closed loop
 * @property {boolean} [warmUp] not reported
 */

/**
 * @typedef {object} Plan
 * @property {string} url
 * @property {'single' | 'bulk'} endpoint
 * @property {string} [path] where it is not the endpoint's own
 * @property {string} payload
 * @property {number} batch events in a bulk body
 * @property {number} connections
 * @property {number} threads
 * @property {number} duplicates share of requests that repeat an acknowledged one
 * @property {number} total events at most; 0 = no limit
 * @property {number} users
 * @property {boolean} [minimal] `Prefer: return=minimal`
 * @property {'honour' | 'at once'} retry what a refused client does
 * @property {Phase[]} phases
 * @property {number} [backlogMs] after the end, for requests that were due and found no connection
 * @property {string} [apiKey]
 */

/** Numbers of one thread; far more than it can send. */
const NUMBERS_PER_THREAD = 2_000_000_000;
const GRACE_MS = 30_000;
/** For the pacer to start. */
const LEAD_MS = 60;
const SAMPLE_MS = 1_000;
let runs = 0;

/** A name for a run that no other run has. */
export function newTag() {
  runs += 1;
  return `${process.pid.toString(36)}${Date.now().toString(36).slice(-6)}${runs}`;
}

/**
 * @param {Plan} plan
 * @param {{ label: string, snapshot?: () => object, onSecond?: () => object }} watched
 */
export async function runLoad(plan, { label, snapshot = () => ({}), onSecond }) {
  const tag = newTag();
  const generators = startGenerators(plan, tag);
  const results = generators.workers.map((worker) => resultOf(worker));
  const ready = generators.workers.map((worker) => messageOf(worker, 'ready'));
  await Promise.race([Promise.all(ready), Promise.all(results)]);
  const startMs = nowMs() + LEAD_MS;
  const pacer = startPacer(plan, generators.ticks, startMs);
  for (const worker of generators.workers) worker.postMessage({ startMs });
  const watched = watch(plan, generators.counts, startMs, { label, snapshot, onSecond });
  const all = await Promise.all(results);
  const { borders, seconds } = await watched.stop();
  Atomics.store(generators.ticks, TICK_SLOT.stop, 1);
  await once(pacer, 'exit');
  return {
    tag,
    names: eventNames(plan.payload, tag),
    phases: phaseResults(plan, all, borders),
    seconds,
    expected: expectation(plan, all),
    failures: mergedFailures(all),
    duplicates: sum(all, (result) => result.duplicates),
    repeats: sum(all, (result) => result.repeats),
  };
}

function startGenerators(plan, tag) {
  const threads = Math.min(plan.threads, plan.connections);
  const ticks = new Int32Array(new SharedArrayBuffer(TICK_SLOT.slots * 4));
  const { hostname, port } = new URL(plan.url);
  const headers = [
    `Content-Type: application/${plan.endpoint === 'bulk' ? 'x-ndjson' : 'json'}`,
    ...(plan.minimal ? ['Prefer: return=minimal'] : []),
    ...(plan.apiKey === undefined ? [] : [`Authorization: Bearer ${plan.apiKey}`]),
  ];
  const target = {
    hostname,
    port: Number(port || 80),
    host: `${hostname}:${port || 80}`,
    path: plan.path ?? (plan.endpoint === 'bulk' ? '/events/bulk' : '/events'),
    headers: headers.map((header) => `${header}\r\n`).join(''),
    users: plan.users,
  };
  const counts = Array.from({ length: threads }, () => new Float64Array(new SharedArrayBuffer(COUNT.slots * 8)));
  const workers = counts.map((own, index) => {
    const connections = Math.floor(plan.connections / threads) + (index < plan.connections % threads ? 1 : 0);
    return new Worker(new URL('../generator/worker.js', import.meta.url), {
      workerData: {
        target,
        tag,
        index,
        threads,
        connections,
        payload: plan.payload,
        batch: plan.endpoint === 'bulk' ? plan.batch : 1,
        duplicates: plan.duplicates,
        total: Math.ceil(plan.total / threads),
        retry: plan.retry,
        phases: plan.phases,
        firstNumber: index * NUMBERS_PER_THREAD,
        graceMs: GRACE_MS,
        backlogMs: plan.backlogMs ?? 1_000,
        counts: own.buffer,
        ticks: ticks.buffer,
      },
    });
  });
  return { workers, counts, ticks };
}

function startPacer(plan, ticks, startMs) {
  const fastest = Math.max(...plan.phases.map((phase) => phase.rate));
  // A closed loop needs only to be started.
  const periodMs = fastest === 0 ? 10 : Math.max(TICKS.minMs, 1000 / fastest);
  return new Worker(new URL('../generator/pacer.js', import.meta.url), {
    workerData: { memory: ticks.buffer, periodMs, startMs },
  });
}

function messageOf(worker, type) {
  return new Promise((resolve) => {
    worker.on('message', (message) => {
      if (message.type === type) resolve(message);
    });
  });
}

async function resultOf(worker) {
  const ended = new Promise((_, reject) => {
    worker.once('error', reject);
    worker.once('exit', (code) =>
      setImmediate(reject, new Error(`a generator ended with ${code} before it had a result`)),
    );
  });
  return Promise.race([messageOf(worker, 'result'), ended]);
}

function generatorCpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Samples once a second, and takes the snapshots at the borders of the phases. */
function watch(plan, counts, startMs, { label, snapshot, onSecond }) {
  const total = (slot) => sum(counts, (own) => own[slot]);
  const state = () => ({
    atMs: nowMs() - startMs,
    requests: total(COUNT.requests),
    events: total(COUNT.events),
    refused: total(COUNT.refused),
    failed: total(COUNT.failed),
    generatorCpuMs: generatorCpuMs(),
    machineCpuMs: machineCpuMs(),
  });
  const borders = [];
  const seconds = [];
  const plannedS = sum(plan.phases, (phase) => phase.seconds);
  const over = new AbortController();
  const timeBorders = (async () => {
    let at = startMs;
    for (const phase of [{ seconds: 0 }, ...plan.phases]) {
      at += phase.seconds * 1000;
      while (!over.signal.aborted && nowMs() < at) await sleep(Math.max(1, Math.min(at - nowMs(), 50)));
      borders.push({ ...state(), ...snapshot() });
    }
  })();
  let last = state();
  const timer = setInterval(() => {
    const now = state();
    const rate = ((now.events - last.events) * 1000) / (now.atMs - last.atMs);
    seconds.push({ s: round(now.atMs / 1000, 1), eventsPerS: Math.round(rate), ...onSecond?.() });
    progress(
      `${label}: ${Math.round(now.atMs / 1000)}/${Math.round(plannedS)} s, ${Math.round(rate)} events/s` +
        `${now.refused > 0 ? `, ${now.refused} refused` : ''}${now.failed > 0 ? `, ${now.failed} FAILED` : ''}`,
    );
    last = now;
  }, SAMPLE_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      over.abort();
      await timeBorders;
      return { borders, seconds };
    },
  };
}

function phaseResults(plan, all, borders) {
  return plan.phases.flatMap((phase, index) => {
    if (phase.warmUp) return [];
    const before = borders[index];
    const after = borders[index + 1];
    const merged = (name) => {
      const histogram = createHistogram(HISTOGRAM);
      for (const result of all) histogram.add(result.phases[index][name]);
      return percentiles(histogram);
    };
    const of = (name) => sum(all, (result) => result.phases[index][name]);
    const errors = of('refused') + of('failed') + of('unsent');
    const answered = of('requests') + errors;
    const seconds = (after.atMs - before.atMs) / 1000;
    return [
      {
        phase: phase.name,
        offeredPerS: phase.rate,
        seconds: round(seconds, 3),
        requestsPerS: round((after.requests - before.requests) / seconds, 1),
        eventsPerS: round((after.events - before.events) / seconds, 1),
        events: after.events - before.events,
        refused: of('refused'),
        failed: of('failed'),
        unsent: of('unsent'),
        errorShare: answered === 0 ? 0 : round(errors / answered, 5),
        latencyMs: merged('latency'),
        fromSendingMs: merged('service'),
        sendingLateMs: merged('lag'),
        before,
        after,
      },
    ];
  });
}

function percentiles(histogram) {
  if (histogram.count === 0) return null;
  const ms = (percent) => round(histogram.percentile(percent) / 1000, 3);
  return {
    p50: ms(50),
    p90: ms(90),
    p95: ms(95),
    p99: ms(99),
    p999: ms(99.9),
    max: round(histogram.max / 1000, 3),
    mean: round(histogram.mean / 1000, 3),
    count: histogram.count,
  };
}

/** What the service must have: all numbers but those that were refused for good; those without an answer may be there. */
function expectation(plan, all) {
  const batch = plan.endpoint === 'bulk' ? plan.batch : 1;
  const seen = new Uint8Array(plan.users);
  let users = 0;
  for (const { numbers } of all) {
    const without = new Set([...numbers.forGood, ...numbers.unsettled]);
    for (let first = numbers.from; first < numbers.to && users < plan.users; first += batch) {
      if (without.has(first)) continue;
      for (let number = first; number < first + batch; number += 1) {
        const user = userOf(number, plan.users);
        users += 1 - seen[user];
        seen[user] = 1;
      }
    }
  }
  return {
    acknowledged: sum(all, ({ numbers }) => numbers.acknowledged),
    unanswered: sum(all, ({ numbers }) => numbers.unsettled.length * batch),
    users,
  };
}

function mergedFailures(all) {
  const merged = new Map();
  for (const { failures } of all)
    for (const [what, times] of failures) merged.set(what, (merged.get(what) ?? 0) + times);
  return [...merged].map(([what, times]) => ({ what, times }));
}

export function sum(items, of) {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}

export function round(value, digits) {
  return Number(value.toFixed(digits));
}
