import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runSequence } from '../support/log-model.js';

/**
 * Invariant 2, the log's half of it: every event in a synced frame is recovered, whatever ends the process or the power.
 * A failure prints MODEL_SEED=…, which replays that sequence alone; MODEL_SEQUENCES says how many are run.
 */

const { MODEL_SEED, MODEL_SEQUENCES = '300' } = process.env;

/** Where a process can end. Each must have been hit, or the model has become blind. */
const CALLS: Readonly<Record<string, readonly string[]>> = {
  segment: ['create', 'writeAll', 'syncData', 'close', 'truncate', 'rename', 'remove'],
  spare: ['reopen', 'writeAll', 'syncData', 'rename'],
  epochs: ['create', 'reopen', 'writeAll', 'syncData', 'close'],
  directory: ['syncDirectory'],
};
const POINTS = Object.entries(CALLS).flatMap(([file, calls]) =>
  calls.flatMap((call) => [`before ${call} ${file}`, `after ${call} ${file}`]),
);

test('every acknowledged group is recovered exactly, whatever is lost at a crash at any point', (t) => {
  const first = MODEL_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(MODEL_SEED);
  const count = MODEL_SEED === undefined ? Number(MODEL_SEQUENCES) : 1;
  t.diagnostic(`${count} sequences from MODEL_SEED=${first}`);
  const crashes = new Map<string, number>();
  for (let seed = first; seed < first + count; seed += 1) {
    for (const [point, times] of runSequence(seed).crashes) crashes.set(point, (crashes.get(point) ?? 0) + times);
  }
  if (count < 2_000) return;
  assert.deepEqual(
    POINTS.filter((point) => !crashes.has(point)),
    [],
    'the process has ended at every point',
  );
});
