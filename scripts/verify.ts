/** `npm run verify`: the whole promise at full size. What it does stands in HELP. */
import { parseArgs } from 'node:util';
import { backlog } from '../test/support/backlog.js';
import { EventSource } from '../test/support/event-source.js';
import { runWithKills } from '../test/support/kills.js';
import { Producer, type Range } from '../test/support/producer.js';
import { removeDirectory, Service, temporaryDirectory } from '../test/support/service.js';
import { Tally } from '../test/support/tally.js';
import { isExact, type Verification, verify } from '../test/support/verify.js';

const HELP = `npm run verify -- [options]

Sends real-looking events to Penstock on its embedded ClickHouse, a share of them twice, kills it with kill -9 in the middle
(in turn: the service, the service with its ClickHouse, ClickHouse alone), sends again what got no answer, and compares
every total and unique count of GET /metrics, and every stored row, with an independent count made while sending. Then:
drain (SIGTERM), start again, new data, compare; the same without deduplication of inserts in ClickHouse; and the replay of
a log as large as all of it after a crash. Exits with 1 where anything differs. Needs about 1 GB in the temporary directory.

  --singles N      events through POST /events (default 100000)
  --bulk N         events through POST /events/bulk (default 1000000)
  --connections N  connections to /events; /events/bulk has 4 (default 64)
  --twice P        share sent twice, in percent (default 5)
  --kill N         rounds of kill -9 in each part (default 3)
  --seed N         of the events (default random, printed)
  --help           this
`;

const { values } = parseArgs({
  options: {
    singles: { type: 'string', default: '100000' },
    bulk: { type: 'string', default: '1000000' },
    connections: { type: 'string', default: '64' },
    twice: { type: 'string', default: '5' },
    kill: { type: 'string', default: '3' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    help: { type: 'boolean', default: false },
  },
});

interface Row extends Verification {
  readonly part: string;
  readonly copies: number;
  readonly unanswered: number;
  readonly kills: number;
  readonly seconds: number;
}

interface Part {
  readonly name: string;
  readonly tally: Tally;
  readonly producer: Producer;
  readonly startedAt: number;
  kills: number;
}

const seed = numberOf('seed');
const singles = numberOf('singles');
const bulk = numberOf('bulk');
const rows: Row[] = [];

function numberOf(option: 'singles' | 'bulk' | 'connections' | 'twice' | 'kill' | 'seed'): number {
  const number = Number(values[option]);
  if (!Number.isSafeInteger(number) || number < 0)
    throw new Error(`--${option} must be a whole number, not ${values[option]}`);
  return number;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function begin(name: string, count: number, partSeed: number): Part {
  say(`\n${name}: ${count} events`);
  const tally = new Tally(new EventSource({ seed: partSeed, count }));
  const producer = new Producer(tally, {
    duplicates: numberOf('twice') / 100,
    singleConnections: numberOf('connections'),
  });
  return { name, tally, producer, startedAt: performance.now(), kills: 0 };
}

async function compare(part: Part, service: Service, what = part.name): Promise<void> {
  const from = performance.now();
  await service.settled(600_000);
  say(`  all is in ClickHouse after ${seconds(from)} s more; comparing`);
  const clickhouse = service.clickhouse();
  const { tally, producer, kills } = part;
  const verification = await verify({ url: service.url, clickhouse, tally, thorough: true });
  await clickhouse.close();
  rows.push({
    part: what,
    copies: producer.copies,
    unanswered: producer.unanswered,
    kills,
    seconds: seconds(part.startedAt),
    ...verification,
  });
  for (const line of verification.report) say(`  ${line}`);
}

/** Sends with kills in between, showing how far it is. */
async function sendWithKills(
  part: Part,
  service: Service,
  work: { readonly singles: Range; readonly bulk: Range },
): Promise<Service> {
  const { tally, producer } = part;
  const from = performance.now();
  const before = tally.acknowledgements;
  const progress = setInterval(
    () => say(`  ${tally.acknowledgements} acknowledged, ${producer.unanswered} requests unanswered`),
    5_000,
  );
  try {
    const running = await runWithKills({
      service,
      restart: {},
      producer,
      work,
      kills: numberOf('kill'),
      onKill: (round, victim, startMs) => {
        part.kills += 1;
        say(
          `  kill ${round}: ${victim}, at ${tally.acknowledgements} acknowledged${startMs > 0 ? `; listening again after ${Math.round(startMs)} ms` : ''}`,
        );
      },
    });
    say(`  ${tally.acknowledgements - before} acknowledged in ${seconds(from)} s`);
    return running;
  } finally {
    clearInterval(progress);
  }
}

async function loadKillDrain(): Promise<void> {
  const dataDir = temporaryDirectory();
  const more = Math.ceil((singles + bulk) / 20);
  const end = singles + bulk;
  const part = begin('kill -9 under load', end + more, seed);
  let service = await Service.start({ dataDir });
  try {
    service = await sendWithKills(part, service, { singles: [0, singles], bulk: [singles, end] });
    await compare(part, service);
    const code = await service.stop();
    if (code !== 0) part.tally.problem(`SIGTERM ended the service with ${code}`);
    service = await Service.start({ dataDir });
    part.producer.url = service.url;
    await part.producer.run({ bulk: [end, end + more] });
    await compare(part, service, '… drain, start, new data');
  } finally {
    await service.dispose();
    await removeDirectory(dataDir);
  }
}

async function withoutInsertDeduplication(): Promise<void> {
  const dataDir = temporaryDirectory();
  const part = begin('no insert deduplication', singles + bulk, seed + 1);
  let service = await Service.start({ dataDir });
  try {
    const clickhouse = service.clickhouse();
    await clickhouse.command({
      query: 'ALTER TABLE penstock.events MODIFY SETTING non_replicated_deduplication_window = 0',
    });
    await clickhouse.close();
    service = await sendWithKills(part, service, { singles: [0, singles], bulk: [singles, singles + bulk] });
    await compare(part, service);
  } finally {
    await service.dispose();
    await removeDirectory(dataDir);
  }
}

async function replay(): Promise<void> {
  const dataDir = temporaryDirectory();
  const part = begin('replay of a log', singles + bulk, seed + 2);
  let service: Service | undefined;
  try {
    const { producer } = part;
    const { logBytes } = await backlog(dataDir, producer, { singles: [0, singles], bulk: [singles, singles + bulk] });
    part.kills = 1;
    const from = performance.now();
    service = await Service.start({ dataDir });
    const listening = performance.now();
    say(
      `  a log of ${part.tally.acknowledgements} rows, ${mib(logBytes)} MiB: listening after ${Math.round(listening - from)} ms`,
    );
    await service.settled(600_000);
    const took = (performance.now() - listening) / 1000;
    say(
      `  shipped in ${took.toFixed(2)} s: ${Math.round(part.tally.acknowledgements / took)} rows/s, ${mib(logBytes / took)} MiB/s`,
    );
    await compare(part, service);
  } finally {
    await service?.dispose();
    await removeDirectory(dataDir);
  }
}

function seconds(from: number): number {
  return Math.round((performance.now() - from) / 100) / 10;
}

function mib(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}

function printTable(): void {
  const head = [
    '',
    'kills',
    'unanswered',
    'sent twice',
    'acknowledged',
    'lost',
    'counted twice',
    'compared',
    'wrong',
    's',
  ];
  const lines = rows.map((row) => [
    row.part,
    row.kills,
    row.unanswered,
    row.copies,
    row.acknowledged,
    row.lost,
    row.twice,
    row.compared,
    row.wrong + row.strange,
    row.seconds,
  ]);
  const table = [head, ...lines].map((line) => line.map(String));
  const widths = head.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0)));
  const text = (line: readonly string[]): string =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ');
  console.log(`seed ${seed}\n${table.map(text).join('\n')}`);
  console.log(
    rows.every(isExact) ? 'exact: nothing is lost, nothing counts twice' : 'NOT EXACT: what differs stands above',
  );
}

if (values.help) {
  console.log(HELP);
} else {
  say(`seed ${seed}`);
  try {
    await loadKillDrain();
    await withoutInsertDeduplication();
    await replay();
    process.exitCode = rows.every(isExact) ? 0 : 1;
  } finally {
    printTable();
  }
}
