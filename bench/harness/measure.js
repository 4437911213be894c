/**
 * One measured run: load, then verification, then samples: rate and latency of each phase, with what it cost in CPU, by whom.
 * Modes are made of these.
 */
import { round, runLoad } from './load.js';
import { say } from './progress.js';
import { verifyRun } from './verify.js';
import { runWrk } from './wrk.js';

/** @returns {import('./load.js').Plan} with the options' settings; a mode sets the rest */
export function planOf(options, url, phases, own = {}) {
  return {
    url,
    endpoint: options.endpoint,
    payload: options.payload,
    batch: options.batch,
    connections: options.connections,
    threads: options.threads,
    duplicates: options.duplicates,
    total: options.total,
    users: options.users,
    retry: 'honour',
    apiKey: options.apiKey,
    clickhouse: options.clickhouse,
    phases:
      options.warmupS > 0
        ? [{ name: 'warm-up', seconds: options.warmupS, rate: phases[0].rate, warmUp: true }, ...phases]
        : phases,
    ...own,
  };
}

/**
 * @param {import('./service.js').Running} service
 * @param {import('./load.js').Plan} plan
 * @param {{ label: string, run: number, tool?: 'node' | 'wrk', verify?: typeof verifyRun }} what
 * @returns {Promise<{ samples: object[], verification: object, seconds: object[] }>}
 */
export async function measure(service, plan, { label, run, tool = 'node', verify = verifyRun }) {
  const watched = {
    label: `${label}, run ${run}`,
    snapshot: service.snapshot,
    onSecond: () => service.state?.() ?? {},
  };
  const stopped = plan.clickhouse === 'stopped' ? (service.children?.() ?? []) : [];
  for (const pid of stopped) process.kill(pid, 'SIGSTOP');
  let result;
  try {
    result = tool === 'wrk' ? await runWrk(plan, watched) : await runLoad(plan, watched);
  } finally {
    for (const pid of stopped) process.kill(pid, 'SIGCONT');
  }
  const samples = result.phases.map((phase) => ({
    label: plan.phases.filter((each) => !each.warmUp).length > 1 ? `${label}: ${phase.phase}` : label,
    service: service.name,
    run,
    tool,
    ...withoutBorders(phase),
    ...costs(phase),
  }));
  const verification = { label, run, ...(await verify(service, result)), failures: result.failures };
  tell(label, run, samples, verification);
  return { samples, verification, seconds: result.seconds };
}

function withoutBorders({ before: _before, after: _after, ...phase }) {
  return phase;
}

/** CPU per event between the borders of a phase, in µs. */
function costs({ before, after, events, requestsPerS, seconds }) {
  const perEvent = (ms) => (events > 0 ? round((ms * 1000) / events, 3) : null);
  const requests = requestsPerS * seconds;
  const generator = requests > 0 ? round(((after.generatorCpuMs - before.generatorCpuMs) * 1000) / requests, 2) : null;
  if (after.cpuMs === undefined) return { cpuUs: { generatorPerRequest: generator } };
  const names = Object.keys(after.threads);
  const used = (of) => of.cpuMs + of.childrenCpuMs + of.generatorCpuMs;
  const others = after.machineCpuMs - before.machineCpuMs - (used(after) - used(before));
  return {
    cpuUs: {
      perEvent: perEvent(after.cpuMs - before.cpuMs),
      clickhousePerEvent: perEvent(after.childrenCpuMs - before.childrenCpuMs),
      generatorPerRequest: generator,
    },
    threadsUs: Object.fromEntries(
      names.map((name) => [
        name === 'node' ? 'V8 and I/O pools' : name,
        perEvent(after.threads[name] - (before.threads[name] ?? 0)),
      ]),
    ),
    memoryMiB: after.memory,
    /** Of the machine, by all that is not measured here, its kernel included: noise. */
    othersCores: Math.max(0, round(others / (after.atMs - before.atMs), 3)),
  };
}

function tell(label, run, samples, verification) {
  for (const { label: line, eventsPerS, latencyMs, cpuUs } of samples) {
    say(
      `${line}, run ${run}: ${Math.round(eventsPerS)} events/s, p50 ${latencyMs?.p50 ?? '–'} ms, p99 ${latencyMs?.p99 ?? '–'} ms, ${cpuUs.perEvent ?? '–'} µs of the service an event`,
    );
  }
  if (verification.exact === false) {
    say(`NOT EXACT: ${label}, run ${run}: ${JSON.stringify(verification)}`);
  }
  for (const { what, times } of verification.failures) say(`failed ${times} times: ${what.slice(0, 200)}`);
}
