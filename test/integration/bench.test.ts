import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { type AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { node } from '../support/bench.js';
import { removeDirectory, Service, temporaryDirectory } from '../support/service.js';

/** That the benchmarks measure what they say and find what is wrong: each mode for a moment. Nothing here is about speed. */

/** Of ramp: a busy machine may miss. */
const MISSED_OR_NOT = [0, 1];

interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

interface Sample {
  readonly label: string;
  readonly eventsPerS: number;
  readonly events: number;
  readonly refused: number;
  readonly latencyMs: Percentiles | null;
  readonly fromSendingMs?: Percentiles;
  readonly cpuUs: { readonly perEvent?: number };
  readonly threadsUs?: Readonly<Record<string, number>>;
  readonly memoryMiB?: { readonly now: number };
}

interface Verification {
  readonly exact: boolean | null;
  readonly acknowledged: number;
  readonly countedByService?: number;
  readonly inClickHouse?: number | null;
}

interface Result {
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryGiB: number;
    readonly kernel: string;
  };
  readonly node: string;
  readonly commit: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly samples: readonly Sample[];
  readonly medians: readonly Sample[];
  readonly verification: readonly Verification[];
  readonly thresholds: readonly { readonly holds: boolean }[];
}

let directory = '';
let service: Service;

before(async () => {
  directory = temporaryDirectory();
  service = await Service.start({ env: { PENSTOCK_IN_FLIGHT_MAX_REQUESTS: '40' } });
});

after(async () => {
  await service.dispose();
  await removeDirectory(directory);
});

async function bench(mode: string, args: readonly string[], codes: readonly number[] = [0]): Promise<Result> {
  const out = path.join(directory, `${mode}.json`);
  const common = ['--duration', '0.5', '--warmup', '0.1', '--runs', '1', '--threads', '2', '--out', out];
  const { code, output } = await node(['bench/run.js', '--mode', mode, ...common, ...args]);
  assert.ok(codes.includes(code), `${mode} ended with ${code}:\n${output}`);
  const result = JSON.parse(fs.readFileSync(out, 'utf8')) as Result;
  holdsShape(mode, result);
  assert.match(fs.readFileSync(out.replace(/json$/, 'svg'), 'utf8'), /^<svg .*<\/svg>$/s);
  return result;
}

function holdsShape(mode: string, result: Result): void {
  assert.ok(result.machine.cpu.length > 0 && result.machine.cores > 0 && result.machine.memoryGiB > 0);
  assert.equal(result.node, process.version);
  assert.equal(result.settings['mode'], mode);
  assert.ok(result.commit.length > 0);
  assert.equal(result.medians.length, new Set(result.samples.map(({ label }) => label)).size);
  assert.ok(result.samples.some(({ events, eventsPerS }) => events > 0 && eventsPerS > 0));
  for (const { label, latencyMs } of result.samples) {
    if (latencyMs !== null) assert.ok(latencyMs.p50 > 0 && latencyMs.p50 <= latencyMs.p99, `${mode}: ${label}`);
  }
  for (const { exact, acknowledged } of result.verification) assert.ok(exact !== false && acknowledged > 0, mode);
}

test('saturate starts the service, counts its CPU by thread, and finds every event in ClickHouse', async () => {
  const { samples, verification } = await bench('saturate', [
    '--payload',
    'mixed',
    '--duplicates',
    '20',
    '--connections',
    '16',
    '--tool',
    'node',
  ]);
  for (const { cpuUs, threadsUs = {}, memoryMiB } of samples) {
    assert.ok((cpuUs.perEvent ?? 0) > 0 && (memoryMiB?.now ?? 0) > 0);
    for (const thread of ['main', 'encoder', 'log', 'shipper']) assert.ok(Object.hasOwn(threadsUs, thread), thread);
  }
  for (const { acknowledged, countedByService, inClickHouse } of verification) {
    assert.equal(countedByService, acknowledged);
    assert.equal(inClickHouse, acknowledged);
  }
});

test('rate offers the rates it is given', async () => {
  const { samples } = await bench('rate', [
    '--url',
    service.url,
    '--rate',
    '200,400',
    '--connections',
    '16',
    '--payload',
    'small',
  ]);
  assert.deepEqual(
    samples.map(({ label }) => label),
    ['single, 200 requests/s', 'single, 400 requests/s'],
  );
});

test('ramp has thresholds for each of its phases', async () => {
  const { thresholds } = await bench(
    'ramp',
    ['--url', service.url, '--rate', '200,400', '--connections', '16'],
    MISSED_OR_NOT,
  );
  assert.equal(thresholds.length, 3);
});

test('bulk counts events, not requests', async () => {
  const { samples, verification } = await bench('bulk', [
    '--url',
    service.url,
    '--batch',
    '50',
    '--connections',
    '2',
    '--payload',
    'large',
  ]);
  assert.equal(samples.length, 2);
  for (const { acknowledged } of verification) assert.equal(acknowledged % 50, 0);
});

test('soak cuts its time into slices', async () => {
  const { samples } = await bench('soak', [
    '--url',
    service.url,
    '--rate',
    '400',
    '--duration',
    '1',
    '--connections',
    '16',
  ]);
  assert.equal(samples.length, 20);
});

test('overload sends what was refused again, and stays exact', async () => {
  const { samples, verification } = await bench('overload', ['--url', service.url, '--connections', '100']);
  assert.ok(
    samples.some(({ refused }) => refused > 0),
    'nothing was refused',
  );
  assert.equal(verification.length, 3);
});

for (const endpoint of ['single', 'bulk']) {
  test(`peers measures four services that all did their work: ${endpoint}`, async () => {
    const options = ['--endpoint', endpoint, '--batch', '100', '--connections', '16', '--tool', 'node'];
    const { samples, verification } = await bench('peers', options);
    assert.equal(samples.length, 4);
    // The one that answers to nothing has nothing to show.
    assert.equal(verification.filter(({ exact }) => exact === true).length, 3);
    assert.equal(verification.filter(({ exact }) => exact === null).length, 1);
  });
}

interface Fake {
  readonly url: string;
  close(): void;
}

/** Answers 202 to everything; `off` is how wrong it counts, and it stands still once for `stallMs`, after so many requests. */
async function fakeService({ off = 0, stallMs = 0, stallAfter = 0 }): Promise<Fake> {
  let accepted = 0;
  const server = http.createServer((request, response) => {
    const isQuestion = request.url?.startsWith('/metrics') ?? false;
    if (!isQuestion) accepted += 1;
    if (!isQuestion && stallMs > 0 && accepted === stallAfter) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stallMs);
    }
    const total = accepted + off;
    const answer = { total_events: total, unique_users: total, as_of: Date.now() / 1000 + 1 };
    const body = JSON.stringify(isQuestion ? answer : { status: 'accepted' });
    request.resume().once('end', () => {
      response.writeHead(isQuestion ? 200 : 202, { 'Content-Length': body.length }).end(body);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

test('a service that counts wrongly makes a run fail', async () => {
  const liar = await fakeService({ off: -1 });
  try {
    const args = ['--url', liar.url, '--duration', '0.2', '--warmup', '0', '--runs', '1', '--tool', 'node'];
    const { code, output } = await node(['bench/run.js', ...args, '--connections', '4', '--out', directory]);
    assert.equal(code, 1, output);
    assert.match(output, /NOT EXACT in 1 of 1 runs/);
  } finally {
    liar.close();
  }
});

test('a stall shows in the latency of all requests that were due in it, sent or not', async () => {
  // On one thread every event has another user, as the fake counts them.
  const stalling = await fakeService({ stallMs: 400, stallAfter: 50 });
  try {
    const args = [
      '--url',
      stalling.url,
      '--threads',
      '1',
      '--rate',
      '500',
      '--duration',
      '0.8',
      '--warmup',
      '0',
      '--connections',
      '4',
    ];
    const { samples } = await bench('rate', args);
    const [sample] = samples;
    assert.ok((sample?.latencyMs?.p90 ?? 0) > 100, JSON.stringify(sample));
    assert.ok((sample?.fromSendingMs?.p50 ?? 0) < (sample?.latencyMs?.p90 ?? 0), JSON.stringify(sample));
  } finally {
    stalling.close();
  }
});

test('a wrong option is named', async () => {
  for (const args of [['--mode', 'fast'], ['--rate', '0', '--mode', 'rate'], ['--payload', 'tiny'], ['--fast']]) {
    const { code, output } = await node(['bench/run.js', ...args]);
    assert.equal(code, 2, output);
    assert.ok(output.includes(args[0] ?? ''), output);
  }
});

test('bench:compare tells a change from noise', async () => {
  const result = (rates: readonly number[], p99: readonly number[]): string => {
    const file = path.join(directory, `rates-${rates.join('-')}.json`);
    const samples = rates.map((eventsPerS, i) => ({ label: 'x', eventsPerS, latencyMs: { p99: p99[i] }, cpuUs: {} }));
    fs.writeFileSync(file, JSON.stringify({ mode: 'rate', machine: {}, node: 'v', settings: {}, samples }));
    return file;
  };
  const old = result([100, 110, 105], [5, 9, 7]);
  const { code, output } = await node(['bench/compare.js', old, result([150, 160, 155], [6, 8, 10])]);
  assert.equal(code, 0, output);
  assert.match(output, /events\/s .* \+47\.6 % .*BETTER/);
  assert.match(output, /p99 ms .*within noise/);
});
