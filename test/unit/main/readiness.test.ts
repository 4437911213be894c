import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ReadinessState, reportReadiness } from '../../../src/main/readiness.js';
import { LOG_STATE } from '../../../src/shared/channel.js';

const READY: ReadinessState = {
  draining: false,
  logState: LOG_STATE.ok,
  walBytes: 0,
  walMaxBytes: 1000,
  encodersFault: undefined,
  encodersDown: false,
  clickhouseFault: undefined,
  requiresClickhouse: false,
};

/** Everything that can be said, what brings it about, and whether it makes an instance unready. */
const CHECKS: readonly {
  readonly check: string;
  readonly says: RegExp;
  readonly fails: boolean;
  readonly state: Partial<ReadinessState>;
}[] = [
  { check: 'shutdown', says: /^the instance is shutting down$/, fails: true, state: { draining: true } },
  { check: 'wal', says: /limit of 1000 bytes/, fails: true, state: { walBytes: 1000 } },
  { check: 'encoders', says: /^one of two$/, fails: false, state: { encodersFault: 'one of two' } },
  { check: 'clickhouse', says: /^degraded: away$/, fails: false, state: { clickhouseFault: 'away' } },
];

test('an instance with nothing to say is ready, and says no more', () => {
  assert.deepEqual(reportReadiness(READY), { status: 200, body: { status: 'ready' } });
});

test('every combination of checks names all of them, and is unready where one of them fails', () => {
  for (let set = 1; set < 1 << CHECKS.length; set += 1) {
    const holding = CHECKS.filter((_, i) => (set & (1 << i)) !== 0);
    const { status, body } = reportReadiness(
      Object.assign({ ...READY }, ...holding.map(({ state }) => state)) as ReadinessState,
    );
    const fails = holding.some((each) => each.fails);
    assert.deepEqual([status, body.status], fails ? [503, 'not_ready'] : [200, 'ready']);
    const checks = body.checks ?? {};
    assert.deepEqual(Object.keys(checks).toSorted(), holding.map(({ check }) => check).toSorted());
    for (const { check, says } of holding) assert.match(checks[check] ?? '', says);
  }
});

test('every state of the log but ok makes an instance unready, and says which it is', () => {
  const expected = {
    starting: /opened/,
    ok: undefined,
    diskFull: /disk is full/,
    failing: /cannot be written/,
    drained: /closed/,
  } as const;
  assert.deepEqual(Object.keys(expected), Object.keys(LOG_STATE));
  for (const [name, logState] of Object.entries(LOG_STATE)) {
    const { status, body } = reportReadiness({ ...READY, logState });
    const says = expected[name as keyof typeof LOG_STATE];
    assert.equal(status, says === undefined ? 200 : 503, name);
    if (says !== undefined) assert.match(body.checks?.['wal'] ?? '', says);
  }
});

test('ClickHouse away makes unready only who asked for that, encoders only when none is left', () => {
  const away = reportReadiness({ ...READY, clickhouseFault: 'away', requiresClickhouse: true });
  assert.deepEqual(away, { status: 503, body: { status: 'not_ready', checks: { clickhouse: 'away' } } });
  const down = reportReadiness({ ...READY, encodersFault: 'none', encodersDown: true });
  assert.deepEqual(down, { status: 503, body: { status: 'not_ready', checks: { encoders: 'none' } } });
  assert.equal(reportReadiness({ ...READY, requiresClickhouse: true }).status, 200);
  assert.equal(reportReadiness({ ...READY, walBytes: 999 }).status, 200);
});
