import { setTimeout as sleep } from 'node:timers/promises';
import { FaultProxy, MISDEEDS, type Misdeed } from '../fault-proxy.js';
import { type Service, until } from '../service.js';
import { externally, type Fault, type FaultRun } from './fault-run.js';

/** ClickHouse away, asleep or misbehaving, under load. */

const TIMEOUT_MS = 400;

async function behindProxy(run: FaultRun, env: Readonly<Record<string, string>> = {}) {
  const clickhouse = await run.clickhouse();
  const proxy = await FaultProxy.to(clickhouse.url);
  run.cleanUp(() => proxy.close());
  const service = await run.start({ env: { ...externally(clickhouse, proxy.url), ...env } });
  run.producer.url = service.url;
  return { clickhouse, proxy, service };
}

function misbehaves(misdeed: Misdeed): Fault {
  return {
    name: `ClickHouse ${misdeed}`,
    short: { rounds: 1, events: 1_000 },
    long: { rounds: 10, events: 6_000 },
    run: async (run) => {
      const { clickhouse, proxy, service } = await behindProxy(run);
      proxy.misdeed = misdeed;
      for (let round = 0; round < run.rounds; round += 1) {
        proxy.times = 1 + Math.floor(run.random() * 2);
        await run.producer.run(run.work());
        await service.settled();
      }
      run.outcome.figures['struck'] = proxy.strikes;
      run.expect(proxy.strikes >= run.rounds, `the proxy struck ${proxy.strikes} times only`);
      await run.conclude(service, clickhouse);
    },
  };
}

/** Lines that say that an INSERT is sent again. */
function repetitions({ lines }: Service): number {
  return lines.filter(({ msg }) => msg === 'ClickHouse did not confirm; the same is sent again').length;
}

const stopped: Fault = {
  name: 'ClickHouse stopped for longer than the request timeout',
  short: { rounds: 1, events: 4_000 },
  long: { rounds: 15, events: 8_000 },
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const service = await run.start({
      env: { ...externally(clickhouse), PENSTOCK_CLICKHOUSE_TIMEOUT_MS: String(TIMEOUT_MS) },
    });
    run.producer.url = service.url;
    for (let round = 0; round < run.rounds; round += 1) {
      await run.underLoad(async () => {
        const before = repetitions(service);
        process.kill(clickhouse.pid, 'SIGSTOP');
        await until(() => repetitions(service) > before, 'an INSERT has timed out', 60_000);
        await run.aMoment();
        process.kill(clickhouse.pid, 'SIGCONT');
      });
      await service.settled();
    }
    await run.conclude(service, clickhouse);
  },
};

const DOWN_MS = { short: 1_000, long: 60_000 } as const;

const away: Fault = {
  name: 'ClickHouse down under load',
  short: { rounds: 1, events: 4_000 },
  long: { rounds: 1, events: 250_000 },
  run: async (run) => {
    const { clickhouse, proxy, service } = await behindProxy(run);
    await run.underLoad(async () => {
      await proxy.close();
      const from = performance.now();
      // An outage has a length; nothing waits for its end but it.
      await sleep(run.events > 10_000 ? DOWN_MS.long : DOWN_MS.short);
      const { status } = await fetch(`${service.url}/ready`);
      run.expect(status === 200, `/ready was answered ${status} while ClickHouse was away and the log had room`);
      run.outcome.figures['downSeconds'] = Math.round((performance.now() - from) / 1000);
      await proxy.open();
    });
    run.expect((run.producer.answers.get(503) ?? 0) === 0, 'events were refused although the log had room');
    await run.conclude(service, clickhouse);
  },
};

export const CLICKHOUSE_FAULTS: readonly Fault[] = [stopped, away, ...MISDEEDS.map(misbehaves)];
