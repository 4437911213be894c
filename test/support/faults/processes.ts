import { runWithKills, type Victim } from '../kills.js';
import { type Service, until } from '../service.js';
import { externally, type Fault } from './fault-run.js';

/** Processes and threads that end without a word. */

function kills(name: string, victim: Victim, embedded: boolean, short: Fault['short'], long: Fault['long']): Fault {
  return {
    name,
    short,
    long,
    run: async (run) => {
      const dataDir = run.directory();
      const clickhouse = embedded ? undefined : await run.clickhouse();
      const env = clickhouse === undefined ? {} : externally(clickhouse);
      let service = await run.start({ dataDir, env });
      for (let round = 0; round < run.rounds; round += 1) {
        const running = await runWithKills({
          service,
          restart: { env },
          producer: run.producer,
          work: run.work(),
          kills: 1,
          victims: [victim],
          onKill: () => {
            run.outcome.kills += 1;
          },
        });
        if (running !== service) run.cleanUp(() => running.dispose());
        service = running;
      }
      if (victim !== 'clickhouse') run.expect(run.producer.unanswered > 0, 'no kill hit a request in flight');
      await run.conclude(service, clickhouse);
    },
  };
}

const PRELOAD = (name: string): string[] => ['--import', new URL(`../${name}.js`, import.meta.url).href];

const encoderDies: Fault = {
  name: 'an encoder ended in the middle of a group',
  short: { rounds: 2, events: 4_000 },
  long: { rounds: 30, events: 8_000 },
  run: async (run) => {
    const service = await run.start({ nodeArgs: PRELOAD('encoder-killer'), env: { PENSTOCK_ENCODER_THREADS: '2' } });
    run.producer.url = service.url;
    for (let round = 0; round < run.rounds; round += 1) {
      await run.underLoad(async () => {
        // Escapes in a name, so that no fast path takes it.
        const body = `{"ev\\u0065nt_name":"killer ${round}","channel":"web","user_id":"ends the thread that reads it","timestamp":1700000000}`;
        const { status } = await fetch(`${service.url}/events`, { method: 'POST', body });
        run.expect(status === 500, `the body that ended its encoder was answered ${status}`);
        run.outcome.kills += 1;
      });
      await ready(service);
    }
    run.expect(run.producer.unanswered === 0, `${run.producer.unanswered} requests of others got no answer`);
    await run.conclude(service);
  },
};

export async function ready(service: Service): Promise<void> {
  await until(
    async () => (await (await fetch(`${service.url}/ready`)).text()) === '{"status":"ready"}',
    'the service is ready',
    60_000,
  );
}

/** The thread ends by itself at one of its steps (thread-killer.ts); the process must, too, and the next one recover. */
function threadEnds(thread: 'log' | 'shipper', short: Fault['short'], long: Fault['long']): Fault {
  return {
    name: `the ${thread} thread ended`,
    short,
    long,
    run: async (run) => {
      const clickhouse = await run.clickhouse();
      const dataDir = run.directory();
      const env = externally(clickhouse);
      for (let round = 0; round < run.rounds; round += 1) {
        // The log syncs a few times before the service listens. One segment is three writes at least: they always come.
        const steps = thread === 'log' ? 8 + Math.floor(run.random() * 16) : 1 + Math.floor(run.random() * 3);
        const dying = { FAULT_THREAD: thread, FAULT_STEPS: String(steps) };
        const service = await run.start({ dataDir, nodeArgs: PRELOAD('thread-killer'), env: { ...env, ...dying } });
        run.producer.url = service.url;
        const sent = run.producer.run(run.work());
        // On a fast machine all is acknowledged before the thread comes to that step.
        const code = await service.exited;
        run.expect(code === 70, `the process ended with ${String(code)} when its ${thread} thread had`);
        run.outcome.kills += 1;
        const next = await run.start({ dataDir, env });
        run.producer.url = next.url;
        await sent;
        run.expect((await next.stop()) === 0, 'SIGTERM ends the next process with 0');
      }
      await run.conclude(await run.start({ dataDir, env }), clickhouse);
    },
  };
}

export const PROCESS_FAULTS: readonly Fault[] = [
  kills('kill -9 of the process', 'service', false, { rounds: 2, events: 4_000 }, { rounds: 90, events: 8_000 }),
  kills(
    'kill -9 of the process and its ClickHouse',
    'service and clickhouse',
    true,
    { rounds: 1, events: 4_000 },
    { rounds: 20, events: 10_000 },
  ),
  kills('kill -9 of ClickHouse', 'clickhouse', true, { rounds: 2, events: 6_000 }, { rounds: 40, events: 12_000 }),
  encoderDies,
  threadEnds('log', { rounds: 1, events: 4_000 }, { rounds: 15, events: 8_000 }),
  threadEnds('shipper', { rounds: 1, events: 4_000 }, { rounds: 15, events: 8_000 }),
];
