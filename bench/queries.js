/**
 * The benchmark of questions: GET /metrics beside what one would build without rollups, on the same rows in the same run, every
 * answer checked before it is timed. `--help` says the rest.
 */
import { setMaxListeners } from 'node:events';
import { resolve } from 'node:path';
import { machine, QUIET_LOAD, versions } from './harness/machine.js';
import { UsageError } from './harness/options.js';
import { say } from './harness/progress.js';
import { resultPath, writeResult } from './harness/report.js';
import { startPenstock, temporaryDataDir } from './harness/service.js';
import { startBeside } from './queries/beside.js';
import {
  noteChange,
  prepareDataset,
  refreshCopies,
  requireKept,
  tableSizes,
  waitForMerges,
  waitForRollups,
} from './queries/dataset.js';
import { measureLive, thresholdsOf } from './queries/live.js';
import { readOptions } from './queries/options.js';
import { requirePostgres, startPostgres } from './queries/postgres.js';
import { questions } from './queries/questions.js';
import { shapeOf } from './queries/rows.js';
import { drawQueries, printQueries } from './queries/report.js';
import { isPenstock, penstock, plain, truth } from './queries/systems.js';
import { measureQuiet } from './queries/timing.js';

/** Long enough for every question from raw rows: slow is to be seen as slow. */
const METRICS_TIMEOUT_MS = '120000';

function settingsOf({ settings }) {
  return { PENSTOCK_METRICS_TIMEOUT_MS: METRICS_TIMEOUT_MS, ...settings };
}

async function measureAll(service, dataDir, dataset, list, options, beside) {
  const { clickhouse } = service;
  const distinct = await refreshCopies(clickhouse, dataset);
  const rollup = await waitForRollups(service, distinct);
  const systems = [penstock(service)];
  if (!options.alone) systems.push(plain(clickhouse, { final: false }), plain(clickhouse, { final: true }));
  const right = truth(clickhouse);
  let postgres;
  try {
    if (beside !== undefined) systems.push(await startBeside(beside, settingsOf(options)));
    if (options.postgres) systems.push((postgres = await startPostgres(options.dataRoot, clickhouse)));
    const mergesS = await waitForMerges(clickhouse);
    const sizes = await tableSizes(clickhouse);
    const quiet = await measureQuiet(systems, right, list, options);
    const [system] = systems;
    if (options.liveRate > 0) noteChange(dataDir, dataset);
    const live =
      options.liveRate === 0
        ? null
        : await measureLive({ service, system, truth: right, list, dataset, options, distinct });
    const { samples = [], verification = [], ...restOfLive } = live ?? {};
    return {
      distinct,
      rollup,
      mergesS,
      sizes,
      postgres: postgres?.about ?? null,
      samples: [...quiet.samples, ...samples],
      verification: [...quiet.verification, ...verification],
      thresholds: thresholdsOf(quiet.samples, samples),
      live: live === null ? null : restOfLive,
    };
  } finally {
    for (const each of [right, ...systems]) await each.close();
  }
}

function chosen(shape, { only = '', liveRate }) {
  const list = questions(shape, { live: liveRate > 0 }).filter(({ label }) => label.includes(only));
  if (list.length === 0) throw new UsageError(`--only ${only}: no question has that in its name`);
  return list;
}

async function main(args) {
  const options = readOptions(args);
  if (options === undefined) return 0;
  if (options.postgres) requirePostgres(options.dataRoot);
  // Before anything is made.
  chosen(shapeOf(options.rows), options);
  const beside =
    options.beside === undefined ? undefined : { kept: resolve(options.beside), dataset: requireKept(options.beside) };
  const startedAt = new Date();
  const temporary = options.dataDir === undefined ? temporaryDataDir(options.dataRoot) : undefined;
  const dataDir = resolve(temporary?.dataDir ?? options.dataDir);
  try {
    const where = machine(dataDir);
    if (where.loadBefore > QUIET_LOAD)
      say(`others are at work here (load ${where.loadBefore}): these figures are not worth keeping`);
    const dataset = await prepareDataset(dataDir, options);
    const list = chosen(dataset, options);
    const service = await startPenstock({ settings: settingsOf(options), kept: dataDir });
    let measured;
    try {
      measured = await measureAll(service, dataDir, dataset, list, options, beside);
    } finally {
      await service.stop();
    }
    return await conclude(args, options, { startedAt, where, dataset, measured });
  } finally {
    temporary?.remove();
  }
}

async function conclude(args, options, { startedAt, where, dataset, measured }) {
  const { distinct, ...rest } = measured;
  const { out, dataRoot: _dataRoot, dataDir: _dataDir, ...settings } = options;
  const result = {
    format: 1,
    mode: 'queries',
    startedAt: startedAt.toISOString(),
    command: `node bench/queries.js ${args.join(' ')}`.trim(),
    machine: where,
    ...versions(),
    settings,
    dataset: { ...dataset, distinct },
    ...rest,
  };
  const path = resultPath({ out, mode: result.mode }, startedAt, result.commit);
  writeResult(path, result);
  await drawQueries(result, path.replace(/\.json$/, '.svg'));
  printQueries(result);
  for (const { name, holds, detail } of result.thresholds) if (!holds) console.log(`FAILS: ${name} (${detail})`);
  console.log(path);
  const isExact = result.verification.every(({ system, exact }) => !isPenstock(system) || exact);
  return isExact && result.thresholds.every(({ holds }) => holds) ? 0 : 1;
}

// Every process that is started adds a listener for our own end.
setMaxListeners(0, process);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof UsageError ? `${error.message}\nSee node bench/queries.js --help` : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
