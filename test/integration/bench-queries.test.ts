import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { node } from '../support/bench.js';
import { removeDirectory, Service, temporaryDirectory } from '../support/service.js';

/** That the benchmark of questions asks what it says and finds what is wrong. Nothing here is about speed. */

/** While events come in a busy machine may miss. */
const MISSED_OR_NOT = [0, 1];

let directory = '';

before(() => {
  directory = temporaryDirectory();
});

after(async () => {
  await removeDirectory(directory);
});

interface Queries {
  readonly rollup: { readonly events: number; readonly seconds: number };
  readonly dataset: { readonly rows: number; readonly distinct: number; readonly duplicates: number };
  readonly samples: readonly {
    readonly label: string;
    readonly system: string;
    readonly p50: number;
    readonly p95: number;
    readonly ms: readonly number[];
  }[];
  readonly verification: readonly { readonly label: string; readonly system: string; readonly exact: boolean }[];
  readonly live: {
    readonly producer: { readonly acknowledged: number };
    readonly costs: Readonly<
      Record<'alone' | 'withQuestions', { readonly serviceCores: number; readonly clickhouseCores: number }>
    >;
  } | null;
}

async function queries(args: readonly string[], codes: readonly number[] = [0]): Promise<Queries> {
  const out = path.join(directory, 'queries.json');
  const brief = ['--runs', '2', '--seconds', '0.3', '--out', out];
  const { code, output } = await node(['bench/queries.js', ...brief, ...args]);
  assert.ok(codes.includes(code), `queries ended with ${code}:\n${output}`);
  assert.match(fs.readFileSync(out.replace(/json$/, 'svg'), 'utf8'), /^<svg .*<\/svg>$/s);
  return JSON.parse(fs.readFileSync(out, 'utf8')) as Queries;
}

test('queries compares every answer with the raw rows before it is timed, and once more after live events', async () => {
  const live = ['--live', '500', '--live-seconds', '1'];
  const result = await queries(['--rows', '80000', '--data-root', directory, ...live], MISSED_OR_NOT);
  const { dataset, samples, verification } = result;
  assert.equal(dataset.distinct, 80_000);
  assert.ok(dataset.duplicates > 150 && dataset.duplicates < 330, `${dataset.duplicates} duplicates`);
  assert.deepEqual(
    verification.filter(({ system, exact }) => system === 'penstock' && !exact),
    [],
  );
  const systems = ['penstock', 'plain', 'plain FINAL', 'penstock, live'];
  assert.deepEqual([...new Set(samples.map(({ system }) => system))], systems);
  const labels = new Set(samples.map(({ label }) => label));
  assert.ok(labels.size > 20);
  assert.equal(samples.length, labels.size * systems.length);
  // Before and after, and the events as such.
  assert.equal(verification.filter(({ system }) => system === 'penstock').length, labels.size * 2 + 1);
  for (const { label, system, p50, p95, ms } of samples) {
    assert.ok(ms.length > 0 && p50 > 0 && p50 <= p95, `${system}: ${label}`);
  }
  assert.ok(result.rollup.events >= 0 && result.rollup.events <= 80_000);
  assert.ok((result.live?.producer.acknowledged ?? 0) > 500);
  for (const { serviceCores, clickhouseCores } of Object.values(result.live?.costs ?? {})) {
    assert.ok(serviceCores > 0 && clickhouseCores > 0);
  }
});

test('queries makes the same data set through the service, keeps it, and finds an answer that is wrong by one event', async () => {
  const dataDir = path.join(directory, 'kept');
  const args = ['--rows', '20000', '--via', 'service', '--data-dir', dataDir, '--only', 'totals, one event, 30 d'];
  const { samples, dataset } = await queries(args);
  assert.equal(samples.length, 2 * 3);
  assert.equal(dataset.distinct, 20_000);
  // It can be asked by turns with another, each held to its own rows.
  const alone = ['--rows', '3000', '--data-root', directory, '--only', 'totals, one event, 30 d', '--alone'];
  const beside = await queries([...alone, '--beside', dataDir]);
  // Two questions are called so, one of them with unaligned ends.
  const both = ['penstock', 'penstock, 0.02 M rows', 'penstock', 'penstock, 0.02 M rows'];
  assert.deepEqual(
    beside.verification.map(({ system, exact }) => [system, exact]),
    both.map((system) => [system, true]),
  );
  assert.deepEqual(
    beside.samples.map(({ system }) => system),
    both,
  );
  const keeper = await Service.start({ dataDir });
  const client = keeper.clickhouse();
  const one = `INSERT INTO bench.truth SELECT * FROM bench.truth WHERE event_name = 'product_view' ORDER BY ts LIMIT 1`;
  await client.command({ query: one });
  await client.close();
  await keeper.stop();
  const { samples: right, verification } = await queries(args, [1]);
  assert.deepEqual(
    verification.filter(({ system, exact }) => system === 'penstock' && !exact).map(({ label }) => label),
    ['totals, one event, 30 d'],
  );
  // What is wrong is not timed.
  assert.equal(right.filter(({ system }) => system === 'penstock').length, 1);
});

test('queries has PostgreSQL beside, or says how to install it', async () => {
  const args = ['--rows', '20000', '--postgres', '--data-root', os.tmpdir(), '--only', 'per channel, all events'];
  if (fs.existsSync('/usr/lib/postgresql')) {
    const { samples } = await queries(args);
    assert.equal(samples.filter(({ system }) => system === 'PostgreSQL').length, 3);
  } else {
    const { code, output } = await node(['bench/queries.js', ...args]);
    assert.equal(code, 2);
    assert.match(output, /apt-get install -y postgresql/);
  }
});

test('a wrong option of queries is named', async () => {
  for (const args of [
    ['--rows', '10.5'],
    ['--via', 'mail'],
    ['--only', 'no such question'],
    ['--beside', path.join(directory, 'nothing')],
  ]) {
    const { code, output } = await node(['bench/queries.js', '--rows', '1000', '--data-root', directory, ...args]);
    assert.equal(code, 2, output);
    assert.ok(output.includes(args[1] ?? ''), output);
  }
});
