import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ENCODER_YOUNG_MIB, THREAD_YOUNG_MIB } from '../../src/shared/limits.js';
import { LAUNCHER, removeDirectory, temporaryDirectory, until } from '../support/service.js';

const MAIN_YOUNG_MIB = 8;

/** Runs in every thread before its own code: makes objects until the young generation is as large as it gets, and notes what was stated and how large it is. */
const PROBE = `
const kept = [];
let mib = 0;
for (let i = 0; i < 1_500_000; i += 1) {
  kept[i % 50_000] = { i, list: [i] };
  if (i % 10_000 === 0) {
    const space = require('node:v8').getHeapSpaceStatistics().find((one) => one.space_name === 'new_space');
    mib = Math.max(mib, space.space_size / 2 ** 20);
  }
}
const stated = require('node:worker_threads').resourceLimits.maxYoungGenerationSizeMb ?? 'main';
require('node:fs').appendFileSync(process.env.PROBE_FILE, JSON.stringify([stated, mib]) + '\\n');
`;

test('main has the young generation that bin/penstock gives it, and each thread its own', async () => {
  const directory = temporaryDirectory();
  const [preload, file] = [path.join(directory, 'probe.cjs'), path.join(directory, 'probe.jsonl')];
  fs.writeFileSync(preload, PROBE);
  fs.writeFileSync(file, '');
  const child = spawn(LAUNCHER, [], {
    stdio: 'ignore',
    env: {
      PATH: process.env['PATH'],
      NODE_OPTIONS: `--require ${preload}`,
      PROBE_FILE: file,
      PENSTOCK_DATA_DIR: path.join(directory, 'data'),
      PENSTOCK_PORT: '0',
      PENSTOCK_ADMIN_PORT: '0',
      // Nobody is there: no matter, these threads do not wait for ClickHouse.
      PENSTOCK_CLICKHOUSE_URL: 'http://127.0.0.1:9',
    },
  });
  const ended = once(child, 'exit');
  const sizes = (): Map<string | number, number> =>
    new Map(
      fs
        .readFileSync(file, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as [string | number, number]),
    );
  try {
    const threads = ['main', ENCODER_YOUNG_MIB, THREAD_YOUNG_MIB];
    await until(() => threads.every((thread) => sizes().has(thread)), 'all kinds of threads have told');
    assert.deepEqual(
      threads.map((thread) => sizes().get(thread)),
      [MAIN_YOUNG_MIB, ENCODER_YOUNG_MIB, THREAD_YOUNG_MIB],
    );
  } finally {
    child.kill('SIGKILL');
    await ended;
    await removeDirectory(directory);
  }
});
