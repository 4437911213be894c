/**
 * The benchmark: starts the service as its users do, loads it, checks that nothing was lost or counted twice, and writes down
 * what it measured together with where. `--help` says the rest.
 */
import { setMaxListeners } from 'node:events';
import { machine, QUIET_LOAD, versions } from './harness/machine.js';
import { readOptions, UsageError } from './harness/options.js';
import { say } from './harness/progress.js';
import { mediansOf, printResult, resultPath, writeResult } from './harness/report.js';
import { serviceElsewhere, startPenstock } from './harness/service.js';
import { waitUntilSettled } from './harness/verify.js';
import { bulk, saturate } from './modes/closed.js';
import { ramp, rate, soak } from './modes/open.js';
import { overload } from './modes/overload.js';
import { peers } from './modes/peers.js';

const RUN = { saturate, rate, ramp, bulk, soak, overload, peers };

/** Everything that a mode measured. */
async function runMode(options, service) {
  const kept = { samples: [], verification: [], series: [], thresholds: [], notes: [] };
  await RUN[options.mode]({
    options,
    service,
    record: ({ samples, verification, seconds }) => {
      kept.samples.push(...samples);
      kept.verification.push(verification);
      kept.series.push({ label: verification.label, run: verification.run, seconds });
    },
    threshold: (each) => kept.thresholds.push(each),
    note: (each) => kept.notes.push(each),
  });
  return kept;
}

async function main(args) {
  const options = readOptions(args);
  if (options === undefined) return 0;
  if (options.url !== undefined && options.clickhouse === 'stopped')
    throw new UsageError('--clickhouse stopped wants a service that is started here, not --url');
  if (options.url !== undefined && options.mode === 'peers')
    throw new UsageError('--mode peers starts its own services: no --url');
  const startedAt = new Date();
  const where = machine(options.dataRoot);
  if (where.loadBefore > QUIET_LOAD)
    say(`others are at work here (load ${where.loadBefore}): these figures are not worth keeping`);
  const own = { settings: options.settings, dataRoot: options.dataRoot };
  const service = options.url === undefined ? await startPenstock(own) : serviceElsewhere(options.url);
  let kept;
  try {
    await waitUntilSettled(service);
    kept = await runMode(options, service);
  } finally {
    await service.stop();
  }
  const { apiKey: _apiKey, out: _out, dataRoot: _dataRoot, ...settings } = options;
  const result = {
    format: 1,
    mode: options.mode,
    startedAt: startedAt.toISOString(),
    command: `node bench/run.js ${args.filter((_arg, i) => args[i - 1] !== '--api-key').join(' ')}`,
    machine: where,
    ...versions(),
    settings,
    medians: mediansOf(kept.samples),
    ...kept,
  };
  const path = resultPath(options, startedAt, result.commit);
  writeResult(path, result);
  // Loaded when there is something to draw: it is larger than all the rest.
  const { charts } = await import('./harness/charts.js');
  charts(result, path.replace(/\.json$/, '.svg'));
  printResult(result);
  console.log(path);
  const isExact = kept.verification.every((each) => each.exact !== false);
  return isExact && kept.thresholds.every((each) => each.holds) ? 0 : 1;
}

// Every process that is started adds a listener for our own end.
setMaxListeners(0, process);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof UsageError ? `${error.message}\nSee node bench/run.js --help` : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
