/**
 * The same questions while events come in: their times beside those of the quiet service, how old the answers are, and what
 * receiving and rolling up cost in CPU, without the questions and with them. At the end everything is compared with the truth again.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { round } from '../harness/load.js';
import { progress, say } from '../harness/progress.js';
import { waitUntilSettled } from '../harness/verify.js';
import { makeTruth, waitForRollups } from './dataset.js';
import { check, percentile, sampleOf, time } from './timing.js';

/** Until the roller has its rhythm. */
const LEAD_MS = 3_000;
/** With events coming in, a question may take so many times as long as without. */
export const FACTOR_MAX = 3;

/**
 * @param {{ service: object, system: object, truth: object, list: object[], dataset: object, options: object, distinct: number }} run
 *   distinct: events that there are before
 */
export async function measureLive({ service, system, truth, list, dataset, options, distinct }) {
  const worker = new Worker(new URL('producer.js', import.meta.url), {
    workerData: { url: service.url, rate: options.liveRate, users: dataset.users },
  });
  const failed = new Promise((_, reject) => {
    worker.once('error', reject);
  });
  const samples = [];
  const lags = [];
  const run = async () => {
    say(`${options.liveRate} events/s come in`);
    await sleep(LEAD_MS);
    const before = await stateOf(service, worker);
    await sleep(options.liveSeconds * 1000);
    const between = await stateOf(service, worker);
    for (const [index, question] of list.entries()) {
      progress(`live ${index + 1}/${list.length} ${question.label}`);
      const { times, error } = await timed(system, question, options);
      if (error !== undefined) {
        say(`penstock has no answer: ${question.label}: ${error.message}`);
        samples.push({ label: question.label, system: 'penstock, live', error: error.message });
        continue;
      }
      lags.push(...times.lagS);
      samples.push(sampleOf(question.label, 'penstock, live', times));
    }
    return { before, between, after: await stateOf(service, worker) };
  };
  let states;
  let producer;
  try {
    states = await Promise.race([run(), failed]);
    worker.postMessage('stop');
    [producer] = await Promise.race([once(worker, 'message'), failed]);
  } finally {
    await worker.terminate();
  }
  const settledS = await waitUntilSettled(service);
  await waitForRollups(service, distinct + producer.acknowledged);
  return {
    samples,
    costs: { alone: costs(states.before, states.between), withQuestions: costs(states.between, states.after) },
    asOfLagS: lags.length === 0 ? null : { p50: percentile(lags, 0.5), p95: percentile(lags, 0.95) },
    producer: { rate: options.liveRate, ...producer },
    settledS,
    ...(await checkAfterwards({ service, system, truth, list, expected: distinct + producer.acknowledged })),
  };
}

async function timed(system, question, options) {
  try {
    return { times: (await time([system], question, options)).get(system.name) };
  } catch (error) {
    return { error };
  }
}

/** Every answer again, now that everything has been counted. */
async function checkAfterwards({ service, system, truth, list, expected }) {
  const distinct = await makeTruth(service.clickhouse);
  const all = { label: 'events in ClickHouse after live', system: 'penstock', exact: distinct === expected, groups: 1 };
  if (!all.exact) all.why = [`${distinct} different events instead of ${expected}`];
  const verification = [all];
  for (const question of list) {
    const checked = await check(system, question, truth);
    verification.push({ ...checked, label: `${checked.label}, after live` });
  }
  for (const { exact, label, why } of verification) if (!exact) say(`NOT EXACT: ${label}: ${why.join('; ')}`);
  return { distinct, verification };
}

async function stateOf(service, worker) {
  worker.postMessage('count');
  const [{ acknowledged }] = await once(worker, 'message');
  return { atMs: performance.now(), acknowledged, ...service.snapshot() };
}

/** CPU between two states, in cores and per event. */
function costs(before, after) {
  const elapsedMs = after.atMs - before.atMs;
  const events = after.acknowledged - before.acknowledged;
  const cores = (ms) => round(ms / elapsedMs, 3);
  const names = Object.keys(after.threads);
  return {
    seconds: round(elapsedMs / 1000, 1),
    eventsPerS: Math.round((events * 1000) / elapsedMs),
    serviceCores: cores(after.cpuMs - before.cpuMs),
    clickhouseCores: cores(after.childrenCpuMs - before.childrenCpuMs),
    threadsCores: Object.fromEntries(
      names.map((name) => [name, cores(after.threads[name] - (before.threads[name] ?? 0))]),
    ),
    cpuUsPerEvent:
      events === 0
        ? null
        : round(((after.cpuMs - before.cpuMs + after.childrenCpuMs - before.childrenCpuMs) * 1000) / events, 2),
    memoryMiB: after.memory.now,
  };
}

/** Whether each question kept within the factor. @returns {{ name: string, holds: boolean, detail: string }[]} */
export function thresholdsOf(quiet, live) {
  return live.map(({ label, p50, error }) => {
    const before = quiet.find((sample) => sample.label === label && sample.system === 'penstock');
    const name = `${label}, live, within ${FACTOR_MAX} times its quiet time`;
    if (error !== undefined || before === undefined) return { name, holds: false, detail: error ?? 'no quiet time' };
    return {
      name,
      holds: p50 <= before.p50 * FACTOR_MAX,
      detail: `${before.p50} → ${p50} ms, × ${round(p50 / before.p50, 2)}`,
    };
  });
}
