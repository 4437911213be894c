/** `npm run test:fault`: every fault in its long form, and the figures of a replay. What it does stands in HELP. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { backlog } from '../test/support/backlog.js';
import { EventSource } from '../test/support/event-source.js';
import { type Outcome, runFault } from '../test/support/faults/fault-run.js';
import { FAULTS } from '../test/support/faults/list.js';
import { runSequence } from '../test/support/log-model.js';
import { Producer } from '../test/support/producer.js';
import { removeDirectory, Service, temporaryDirectory } from '../test/support/service.js';
import { Tally } from '../test/support/tally.js';

const HELP = `npm run test:fault -- [options]

Attacks Penstock in every way of test/support/faults/list.ts, under load, and compares each time what was acknowledged with what
counts; then random lives of the log on a disk that loses what is not synced; then the replay of a large log. Prints a table,
writes bench/results/fault-suite.json, exits with 1 where anything differs. Takes about 25 minutes on two cores. Faults that
cannot be made here (no root, no haproxy, no fiu-utils, no faketime) are listed as not run.

  --only TEXT      faults whose name has this in it, and nothing else; their rows replace those in the results
  --sequences N    of the model of the log (default 10000)
  --replay N       events in the log that is replayed (default 1000000)
  --seed N         (default random, printed)
  --help           this

FAULT_ROUNDS multiplies the rounds of every fault.
`;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    sequences: { type: 'string', default: '10000' },
    replay: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    help: { type: 'boolean', default: false },
  },
});

const seed = Number(values.seed);
const factor = Number(process.env['FAULT_ROUNDS'] ?? 1);
const outcomes: Outcome[] = [];
const notRun: { readonly fault: string; readonly why: string }[] = [];

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function runFaults(): Promise<void> {
  for (const [at, fault] of FAULTS.entries()) {
    if (!fault.name.includes(values.only)) continue;
    const why = fault.missing?.();
    if (why !== undefined) {
      notRun.push({ fault: fault.name, why });
      say(`${fault.name}: NOT RUN: ${why}`);
      continue;
    }
    const extent = { ...fault.long, rounds: Math.max(1, Math.round(fault.long.rounds * factor)) };
    say(`${fault.name}: ${extent.rounds} rounds of ${extent.events} events`);
    try {
      const outcome = await runFault(fault, extent, seed + at);
      outcomes.push(outcome);
      say(`  ${outcome.seconds} s ${JSON.stringify(outcome.figures)}`);
      for (const line of outcome.wrong) say(`  WRONG: ${line}`);
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      say(`  FAILED: ${text}`);
      outcomes.push({ ...emptyOutcome(fault.name), rounds: extent.rounds, wrong: [text] });
    }
  }
}

function emptyOutcome(fault: string): Outcome {
  return { fault, seed, rounds: 0, kills: 0, acknowledged: 0, lost: 0, twice: 0, wrong: [], figures: {}, seconds: 0 };
}

function runModel(): void {
  const from = performance.now();
  const outcome = emptyOutcome('model of the log: crashes at every point');
  const sequences = Number(values.sequences);
  let groups = 0;
  for (; outcome.rounds < sequences; outcome.rounds += 1) {
    try {
      const { crashes, acknowledgedRows } = runSequence(seed + outcome.rounds);
      for (const times of crashes.values()) groups += times;
      outcome.figures['rows'] = Number(outcome.figures['rows'] ?? 0) + acknowledgedRows;
    } catch (error) {
      outcome.wrong.push(error instanceof Error ? error.message : String(error));
    }
  }
  outcome.figures['crashes'] = groups;
  outcome.seconds = Math.round((performance.now() - from) / 100) / 10;
  for (const line of outcome.wrong.slice(0, 5)) say(`  WRONG: ${line}`);
  outcomes.push(outcome);
}

/** The same events live, and from the log of an instance that was killed. */
async function replay(count: number): Promise<Record<string, number>> {
  say(`replay of a log of ${count} events`);
  const live = await timed(count, async (dataDir, producer) => {
    const service = await Service.start({ dataDir });
    const from = performance.now();
    producer.url = service.url;
    await producer.run({ bulk: [0, count] });
    await service.settled(600_000);
    return { service, from };
  });
  const figures = { liveRowsPerSecond: live.rowsPerSecond, readyMs: 0, logMiB: 0, replayRowsPerSecond: 0 };
  const again = await timed(count, async (dataDir, producer) => {
    const { logBytes } = await backlog(dataDir, producer, { singles: [0, 0], bulk: [0, count] });
    const from = performance.now();
    const service = await Service.start({ dataDir });
    figures.readyMs = Math.round(performance.now() - from);
    figures.logMiB = Math.round(logBytes / 2 ** 20);
    await service.settled(600_000);
    return { service, from };
  });
  figures.replayRowsPerSecond = again.rowsPerSecond;
  say(`  ${JSON.stringify(figures)}`);
  return figures;
}

async function timed(
  count: number,
  run: (dataDir: string, producer: Producer) => Promise<{ readonly service: Service; readonly from: number }>,
): Promise<{ readonly rowsPerSecond: number }> {
  const dataDir = temporaryDirectory();
  const tally = new Tally(new EventSource({ seed, count, users: 40_000 }));
  let service: Service | undefined;
  try {
    const ran = await run(dataDir, new Producer(tally));
    ({ service } = ran);
    return { rowsPerSecond: Math.round((tally.acknowledgements / (performance.now() - ran.from)) * 1000) };
  } finally {
    await service?.dispose();
    await removeDirectory(dataDir);
  }
}

function isClean({ lost, twice, wrong }: Outcome): boolean {
  return lost + twice + wrong.length === 0;
}

interface Row extends Outcome {
  readonly at: string;
  readonly commit: string;
}

interface Results {
  readonly faults: readonly Row[];
  readonly notRun: readonly { readonly fault: string; readonly why: string }[];
  readonly replay: Readonly<Record<string, number>>;
}

const FILE = fileURLToPath(new URL('../../bench/results/fault-suite.json', import.meta.url));

function table({ faults, notRun: left }: Results): string {
  const head = ['fault', 'rounds', 'events acknowledged', 'lost', 'counted twice', 'kills', 'otherwise wrong', 's'];
  const total = emptyOutcome('total');
  for (const { acknowledged, lost, twice, kills, seconds, wrong } of faults) {
    total.acknowledged += acknowledged;
    total.lost += lost;
    total.twice += twice;
    total.kills += kills;
    total.seconds += seconds;
    total.wrong.push(...wrong);
  }
  total.seconds = Math.round(total.seconds);
  const lines = [...faults, total].map((o) => [
    o.fault,
    ...[o === total ? '' : o.rounds, o.acknowledged, o.lost, o.twice, o.kills, o.wrong.length, o.seconds].map(String),
  ]);
  const widths = head.map((name, column) => Math.max(name.length, ...lines.map((line) => line[column]?.length ?? 0)));
  const cell = (text: string, column: number): string =>
    column === 0 ? text.padEnd(widths[0] ?? 0) : text.padStart(widths[column] ?? 0);
  return [
    ...[head, ...lines].map((line) => line.map(cell).join(' | ')),
    ...left.map(({ fault, why }) => `${fault}: not run: ${why}`),
  ].join('\n');
}

function git(...parameters: string[]): string {
  return execFileSync('git', parameters, { encoding: 'utf8' }).trim();
}

/** What was run now, in place of what the results had of it. */
function results(replayed: Readonly<Record<string, number>> | undefined): Results {
  const commit = `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '--', 'src') === '' ? '' : ' and changes'}`;
  const rows: Row[] = outcomes.map((outcome) => ({ ...outcome, at: new Date().toISOString(), commit }));
  if (values.only === '') return { faults: rows, notRun, replay: replayed ?? {} };
  const earlier: Results = fs.existsSync(FILE)
    ? (JSON.parse(fs.readFileSync(FILE, 'utf8')) as Results)
    : { faults: [], notRun: [], replay: {} };
  const isOld = ({ fault }: { readonly fault: string }): boolean => rows.every((row) => row.fault !== fault);
  const kept = earlier.faults.map((old) => rows.find(({ fault }) => fault === old.fault) ?? old);
  const added = rows.filter(({ fault }) => earlier.faults.every((old) => old.fault !== fault));
  return { faults: [...kept, ...added], notRun: earlier.notRun.filter(isOld), replay: earlier.replay };
}

function write(all: Results): void {
  fs.mkdirSync(path.dirname(FILE), { recursive: true });
  const [cpu] = os.cpus();
  const machine = {
    cpu: cpu?.model.trim(),
    cores: os.cpus().length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: os.release(),
  };
  const file = { what: 'npm run test:fault', machine, node: process.version, seed, factor, ...all };
  fs.writeFileSync(FILE, `${JSON.stringify(file, undefined, 2)}\n`);
}

if (values.help) {
  console.log(HELP);
} else {
  say(`seed ${seed}`);
  await runFaults();
  if (values.only === '') runModel();
  const all = results(values.only === '' ? await replay(Number(values.replay)) : undefined);
  console.log(table(all));
  console.log(`replay of a log after a crash: ${JSON.stringify(all.replay)}`);
  write(all);
  process.exitCode = outcomes.every(isClean) ? 0 : 1;
}
