import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { admit, type AdmissionState, overloaded } from '../../../src/main/admission.js';
import { LOG_STATE } from '../../../src/shared/channel.js';
import { type ErrorCode, isRetryable } from '../../../src/shared/errors.js';
import { tries } from '../../support/property.js';

const IDLE: AdmissionState = {
  draining: false,
  logState: LOG_STATE.ok,
  walBytes: 0,
  walMaxBytes: 1000,
  shipBytesPerSecond: 10,
  openRequests: 0,
  maxRequests: 10,
  bodyBytes: 0,
  maxBodyBytes: 500,
  answersPerSecond: 100,
  drainSecondsLeft: 8,
};

/** Every way to be refused, in the order in which they come first, each with what sets it off. */
const REASONS: readonly { readonly code: ErrorCode; readonly state: Partial<AdmissionState> }[] = [
  { code: 'draining', state: { draining: true } },
  { code: 'disk_full', state: { logState: LOG_STATE.diskFull } },
  { code: 'log_failed', state: { logState: LOG_STATE.failing } },
  { code: 'log_full', state: { walBytes: 1000 } },
  { code: 'overloaded', state: { openRequests: 10 } },
];

test('an idle instance admits', () => {
  assert.equal(admit(IDLE), undefined);
});

test('of all that stands in the way, in every combination, the first of the table is the reason', () => {
  for (let set = 0; set < 1 << REASONS.length; set += 1) {
    const holding = REASONS.filter((_, i) => (set & (1 << i)) !== 0);
    // A log that is full of the disk cannot also be failing: the first of two states of one thing wins.
    const state = Object.assign({ ...IDLE }, ...holding.toReversed().map(({ state: more }) => more)) as AdmissionState;
    assert.equal(admit(state)?.code, holding[0]?.code, JSON.stringify(state));
  }
});

test('every state of the log but ok refuses', () => {
  const expected = {
    starting: 'log_failed',
    ok: undefined,
    diskFull: 'disk_full',
    failing: 'log_failed',
    drained: 'log_failed',
  } as const;
  assert.deepEqual(Object.keys(expected), Object.keys(LOG_STATE));
  for (const [name, logState] of Object.entries(LOG_STATE)) {
    assert.equal(admit({ ...IDLE, logState })?.code, expected[name as keyof typeof LOG_STATE], name);
  }
});

test('each bound holds at its exact value', () => {
  const bounds: readonly (readonly [inside: Partial<AdmissionState>, beyond: Partial<AdmissionState>])[] = [
    [{ walBytes: 999 }, { walBytes: 1000 }],
    [
      { walBytes: 600, bodyBytes: 399 },
      { walBytes: 600, bodyBytes: 400 },
    ],
    [{ openRequests: 9 }, { openRequests: 10 }],
    [{ bodyBytes: 499 }, { bodyBytes: 500 }],
  ];
  for (const [inside, beyond] of bounds) {
    assert.equal(admit({ ...IDLE, ...inside }), undefined, JSON.stringify(inside));
    assert.notEqual(admit({ ...IDLE, ...beyond }), undefined, JSON.stringify(beyond));
  }
});

test('the time to wait follows from what stands in the way and how fast it goes away', () => {
  const waits: readonly (readonly [Partial<AdmissionState>, number])[] = [
    [{ draining: true, drainSecondsLeft: 7.2 }, 8],
    [{ draining: true, drainSecondsLeft: 0 }, 1],
    [{ walBytes: 1000, shipBytesPerSecond: 10 }, 100],
    [{ walBytes: 1000, shipBytesPerSecond: 1 }, 600],
    [{ walBytes: 50 * 1024 * 1024, shipBytesPerSecond: 0 }, 5],
    [{ logState: LOG_STATE.diskFull, walBytes: 55 }, 6],
    [{ openRequests: 450, answersPerSecond: 100 }, 5],
    [{ openRequests: 1_000, answersPerSecond: 0 }, 10],
    [{ openRequests: 16_000, answersPerSecond: 1 }, 30],
  ];
  for (const [state, seconds] of waits)
    assert.equal(admit({ ...IDLE, ...state })?.retryAfterS, seconds, JSON.stringify(state));
  assert.equal(overloaded({ ...IDLE, openRequests: 3 }).retryAfterS, 1);
});

test('whatever the state, a refusal can be retried, after whole seconds from 1 to 600', () => {
  const amount = fc.oneof(fc.constant(0), fc.nat(2 ** 40), fc.double({ min: 0, max: 1e15, noNaN: true }));
  const state = fc.record({
    draining: fc.boolean(),
    logState: fc.constantFrom(...Object.values(LOG_STATE)),
    walBytes: amount,
    walMaxBytes: amount,
    shipBytesPerSecond: amount,
    openRequests: amount,
    maxRequests: amount,
    bodyBytes: amount,
    maxBodyBytes: amount,
    answersPerSecond: amount,
    drainSecondsLeft: amount,
  });
  fc.assert(
    fc.property(state, (given) => {
      const refusal = admit(given);
      if (refusal === undefined) {
        assert.ok(!given.draining && given.logState === LOG_STATE.ok && given.openRequests < given.maxRequests);
        return;
      }
      assert.ok(isRetryable(refusal.code));
      assert.ok(Number.isInteger(refusal.retryAfterS) && refusal.retryAfterS >= 1 && refusal.retryAfterS <= 600);
    }),
    tries(500),
  );
});
