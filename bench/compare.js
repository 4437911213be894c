/**
 * What changed between two results of run.js, beyond noise. A line has changed when the runs of the one lie all on one side
 * of the runs of the other, and the medians differ by more than 2 %: with three runs each, chance does that once in ten
 * times, so a verdict that matters wants `--runs 5` or more, old and new measured on a machine that does nothing else.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { byLabel, median, tableText } from './harness/report.js';

const LEAST_CHANGE = 0.02;
const RUNS_MIN = 2;

const METRICS = [
  { name: 'events/s', of: (sample) => sample.eventsPerS, more: 'better' },
  { name: 'p50 ms', of: (sample) => sample.latencyMs?.p50, more: 'worse' },
  { name: 'p99 ms', of: (sample) => sample.latencyMs?.p99, more: 'worse' },
  { name: 'service µs/event', of: (sample) => sample.cpuUs?.perEvent, more: 'worse' },
  { name: 'ns/event', of: (sample) => sample.nsPerEvent, more: 'worse' },
  { name: 'memory MiB', of: (sample) => sample.memoryMiB?.now, more: 'worse' },
];

/** @returns {{ change: number, paired: number, verdict: string }} changes as shares; paired = median of run i by run i */
export function judge(old, now, more) {
  const change = median(now) / median(old) - 1;
  const pairs = Math.min(old.length, now.length);
  const paired = median(now.slice(0, pairs).map((value, i) => value / old[i])) - 1;
  if (pairs < RUNS_MIN) return { change, paired, verdict: 'one run: no verdict' };
  const apart = Math.min(...now) > Math.max(...old) || Math.max(...now) < Math.min(...old);
  if (!apart || Math.abs(change) < LEAST_CHANGE) return { change, paired, verdict: 'within noise' };
  return { change, paired, verdict: change > 0 === (more === 'better') ? 'BETTER' : 'WORSE' };
}

/** Half of the range of the runs, as a share of their median. */
function spread(values) {
  return (Math.max(...values) - Math.min(...values)) / 2 / median(values);
}

export function compare(oldResult, newResult) {
  const old = byLabel(oldResult.samples);
  const rows = [];
  for (const [label, samples] of byLabel(newResult.samples)) {
    for (const { name, of, more } of METRICS) {
      const values = (group) => (group ?? []).map(of).filter((value) => typeof value === 'number' && value > 0);
      const before = values(old.get(label));
      const after = values(samples);
      if (before.length === 0 || after.length === 0) continue;
      rows.push({
        label,
        metric: name,
        before: median(before),
        spreadBefore: spread(before),
        after: median(after),
        spreadAfter: spread(after),
        ...judge(before, after, more),
      });
    }
  }
  return rows;
}

function percent(share) {
  return `${share >= 0 ? '+' : ''}${(share * 100).toFixed(1)} %`;
}

function number(value) {
  return value >= 1000 ? String(Math.round(value)) : value.toPrecision(4);
}

/** What makes two results incomparable, or nearly so. */
function differences(a, b) {
  const of = ({ mode, machine, node, settings }) => ({
    mode,
    machine: `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.kernel}`,
    node,
    settings: JSON.stringify({ ...settings, out: undefined, runs: undefined }),
  });
  const [before, after] = [of(a), of(b)];
  return Object.keys(before)
    .filter((key) => before[key] !== after[key])
    .map((key) => `${key}: ${before[key]} → ${after[key]}`);
}

function main() {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { help: { type: 'boolean', short: 'h' } },
  });
  if (values.help || positionals.length !== 2) {
    console.log(
      'npm run bench:compare -- OLD.json NEW.json\nSays which lines of two results of bench/run.js differ by more than their noise.',
    );
    return values.help ? 0 : 2;
  }
  const [old, now] = positionals.map((path) => JSON.parse(readFileSync(path, 'utf8')));
  console.log(`${old.commit} (${old.startedAt}) → ${now.commit} (${now.startedAt})`);
  for (const line of differences(old, now)) console.log(`not the same ${line}`);
  for (const { machine, startedAt } of [old, now]) console.log(`load before ${startedAt}: ${machine.loadBefore}`);
  const rows = compare(old, now).map((row) => [
    row.label,
    row.metric,
    number(row.before),
    `± ${(row.spreadBefore * 100).toFixed(1)} %`,
    number(row.after),
    `± ${(row.spreadAfter * 100).toFixed(1)} %`,
    percent(row.change),
    percent(row.paired),
    row.verdict,
  ]);
  console.log(tableText(['', 'metric', 'old', 'spread', 'new', 'spread', 'medians', 'run by run', 'verdict'], rows));
  return 0;
}

if (process.argv[1] === new URL(import.meta.url).pathname) process.exitCode = main();
