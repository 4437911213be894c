/** rate, ramp and soak: open loops, where a slow service cannot slow down what asks it. */
import { round } from '../harness/load.js';
import { measure, planOf } from '../harness/measure.js';
import { median } from '../harness/report.js';

const SOAK_SLICES = 20;
/** Of ramp, in each phase. */
const P95_MS = 60;
const P99_MS = 150;
const ERROR_SHARE = 0.01;

export async function rate({ options, service, record }) {
  for (let run = 1; run <= options.runs; run += 1) {
    for (const perS of options.rates) {
      const plan = planOf(options, service.url, [{ name: 'rate', seconds: options.durationS, rate: perS }]);
      record(await measure(service, plan, { label: `${options.endpoint}, ${perS} requests/s`, run }));
    }
  }
}

export async function ramp({ options, service, record, threshold }) {
  const [base = 2_000, spike = 20_000] = options.rates;
  for (let run = 1; run <= options.runs; run += 1) {
    const phases = [
      { name: `${base}/s`, seconds: options.durationS, rate: base },
      { name: `spike to ${spike}/s`, seconds: options.durationS / 3, rate: spike },
      { name: `${base}/s again`, seconds: options.durationS / 3, rate: base },
    ];
    const measured = await measure(service, planOf(options, service.url, phases), { label: 'ramp', run });
    record(measured);
    for (const { label, latencyMs, errorShare } of measured.samples) {
      const holds = latencyMs !== null && latencyMs.p95 < P95_MS && latencyMs.p99 < P99_MS && errorShare < ERROR_SHARE;
      const detail = `run ${run}: p95 ${latencyMs?.p95} ms, p99 ${latencyMs?.p99} ms, errors ${round(errorShare * 100, 3)} %`;
      threshold({ name: `${label}: p95 < ${P95_MS} ms, p99 < ${P99_MS} ms, errors < 1 %`, holds, detail });
    }
  }
}

export async function soak({ options, service, record, note }) {
  const perS = options.rates[0] ?? 0;
  const slice = options.durationS / SOAK_SLICES;
  const phases = Array.from({ length: SOAK_SLICES }, (_, index) => ({
    name: `from ${round(index * slice, 1)} s`,
    seconds: slice,
    rate: perS,
  }));
  for (let run = 1; run <= options.runs; run += 1) {
    const measured = await measure(service, planOf(options, service.url, phases), { label: 'soak', run });
    record(measured);
    note({ run, ...drift(measured.seconds) });
  }
}

/** How much more memory and log there is at the end than at the beginning, by the medians of the second and the last fifth. */
function drift(seconds) {
  const fifth = Math.floor(seconds.length / 5);
  const part = (index, of) => {
    const values = seconds.slice(index * fifth, (index + 1) * fifth).flatMap((second) => second[of] ?? []);
    return values.length === 0 ? null : median(values);
  };
  return {
    memoryMiB: { secondFifth: part(1, 'memoryMiB'), lastFifth: part(4, 'memoryMiB') },
    logMiB: { secondFifth: part(1, 'logMiB'), lastFifth: part(4, 'logMiB') },
  };
}
