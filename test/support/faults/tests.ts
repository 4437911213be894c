import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Fault, runFault } from './fault-run.js';

/** FAULT_ROUNDS multiplies the rounds, TEST_SEED repeats the events, though not the moments at which a fault came. */
const { FAULT_ROUNDS: factor = '1', TEST_SEED: seed } = process.env;

/** The short form of each fault as a test. */
export function faultTests(faults: readonly Fault[]): void {
  for (const fault of faults) {
    const missing = fault.missing?.();
    test(
      `${fault.name}: nothing acknowledged is lost, nothing counts twice`,
      missing === undefined ? {} : { skip: `did not run: ${missing}` },
      async (t) => {
        const chosen = Number(seed ?? Math.floor(Math.random() * 2 ** 31));
        const extent = {
          ...fault.short,
          brief: true,
          rounds: Math.max(1, Math.round(fault.short.rounds * Number(factor))),
        };
        const outcome = await runFault(fault, extent, chosen);
        const { rounds, acknowledged, lost, twice, wrong, figures } = outcome;
        t.diagnostic(
          `TEST_SEED=${chosen}, ${rounds} rounds, ${acknowledged} events acknowledged, ${JSON.stringify(figures)}`,
        );
        assert.deepEqual({ lost, twice, wrong }, { lost: 0, twice: 0, wrong: [] });
        assert.ok(acknowledged >= extent.rounds * extent.events);
      },
    );
  }
}
