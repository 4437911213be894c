import { FaultProxy } from '../fault-proxy.js';
import { Tally } from '../tally.js';
import { externally, type Fault } from './fault-run.js';

/** Two instances on one ClickHouse, and the same events through both. */

/** One is killed when its rows are in ClickHouse and the completion is not: the proxy holds that. */
const killedBetween: Fault = {
  name: 'two instances, one killed for good between INSERT and completion',
  short: { rounds: 1, events: 4_000 },
  long: { rounds: 12, events: 8_000 },
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const survivor = await run.start({ env: externally(clickhouse) });
    for (let round = 0; round < run.rounds; round += 1) {
      const proxy = await FaultProxy.to(clickhouse.url);
      run.cleanUp(() => proxy.close());
      const dataDir = run.directory();
      const victim = await run.start({ dataDir, env: externally(clickhouse, proxy.url) });
      const held = new Promise<void>((resolve) => {
        proxy.onHold = resolve;
      });
      let mayComplete = true;
      proxy.hold = (query, body) =>
        !mayComplete && /^INSERT INTO \S*segments`? /.test(query) && body.includes('"completion"');
      const work = run.work();
      // What the victim has acknowledged counts as well, or is in a log that never comes back.
      const other = run.newProducer(new Tally(run.tally.source));
      other.url = victim.url;
      run.producer.url = survivor.url;
      // What is sent behind this moment is still to be completed.
      const struck = (async () => {
        await other.acknowledged(run.events * 0.5 * run.random());
        mayComplete = false;
      })();
      const sent = Promise.all([run.producer.run(work), other.run(work), struck]);
      await Promise.all([sent, held]);
      await victim.kill();
      run.outcome.kills += 1;
      run.outcome.acknowledged += other.tally.acknowledgements;
      // One log in two comes back, and is shipped a second time.
      if (round % 2 === 0) continue;
      const again = await run.start({ dataDir, env: externally(clickhouse) });
      await again.settled();
      run.expect((await again.stop()) === 0, 'SIGTERM ends the instance that came back with 0');
    }
    await run.conclude(survivor, clickhouse);
  },
};

export const INSTANCE_FAULTS: readonly Fault[] = [killedBetween];
