import fs from 'node:fs';
import path from 'node:path';
import { type Service } from '../service.js';
import { externally, type Fault, type FaultRun } from './fault-run.js';

/** Rows that ClickHouse does not take, and rows that it takes with difficulty. */

const POISON = 'poison';
const POISON_CHANNEL = 'push';

const poison: Fault = {
  name: 'rows that ClickHouse refuses, under load',
  short: { rounds: 1, events: 4_000 },
  long: { rounds: 12, events: 8_000 },
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const service = await run.start({ env: externally(clickhouse) });
    const { client, database } = clickhouse;
    const table = `${database}.events`;
    await client.command({ query: `ALTER TABLE ${table} ADD CONSTRAINT no_poison CHECK user_id != '${POISON}'` });
    run.producer.url = service.url;
    let sent = 0;
    for (let round = 0; round < run.rounds; round += 1) {
      await run.underLoad(async () => {
        for (let i = 0; i < 3; i += 1) {
          await run.aMoment();
          const event = {
            event_name: `bad ${round}.${i}`,
            channel: POISON_CHANNEL,
            user_id: POISON,
            timestamp: 1_700_000_000,
          };
          const { status } = await fetch(`${service.url}/events`, { method: 'POST', body: JSON.stringify(event) });
          run.expect(status === 202, `a row that only ClickHouse refuses was answered ${status}`);
          sent += 1;
        }
      });
    }
    await service.settled();
    run.outcome.figures['deadLetters'] = letters(service);
    run.expect(letters(service) === sent, `${letters(service)} of ${sent} refused rows are in the dead-letter store`);
    await run.conclude(service, clickhouse, { dead: sent });
  },
};

function letters(service: Service): number {
  const directory = path.join(service.dataDir, 'dead-letter');
  const texts = fs.readdirSync(directory).filter((name) => name.endsWith('.jsonl'));
  const lines = texts.flatMap((name) => fs.readFileSync(path.join(directory, name), 'utf8').split('\n'));
  return lines.filter((line) => line !== '').length;
}

/** Ms that shipping a load takes, from its first request until as_of has passed its last. */
async function shippingMs(run: FaultRun, service: Service, meanwhile: () => Promise<void>): Promise<number> {
  const from = performance.now();
  const over = new AbortController();
  const other = (async () => {
    while (!over.signal.aborted) await meanwhile();
  })();
  await run.producer.run(run.work());
  await service.settled(240_000);
  const took = performance.now() - from;
  over.abort();
  await other;
  return took;
}

const SCATTERED = 'scattered';
const SCATTERED_A_SECOND = 200;

const anyTimestamps: Fault = {
  name: 'events of any time since 1970 beside those of others',
  short: { rounds: 2, events: 3_000 },
  long: { rounds: 6, events: 150_000 },
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const service = await run.start({ env: { ...externally(clickhouse), PENSTOCK_FLUSH_INTERVAL_MS: '1000' } });
    run.producer.url = service.url;
    let scattered = 0;
    const nowS = Math.floor(Date.now() / 1000);
    const scatter = async (): Promise<void> => {
      const events = Array.from({ length: SCATTERED_A_SECOND }, () => {
        scattered += 1;
        return {
          event_name: SCATTERED,
          channel: 'api',
          user_id: `s${scattered}`,
          timestamp: 1 + Math.floor(run.random() * nowS),
        };
      });
      const body = JSON.stringify(events);
      const { status } = await fetch(`${service.url}/events/bulk`, { method: 'POST', body });
      run.expect(status === 202, `scattered events were answered ${status}`);
    };
    // In turn, so that what the machine does meanwhile befalls both alike.
    let [alone, beside] = [0, 0];
    for (let round = 0; round < run.rounds; round += 1) {
      if (round % 2 === 0) alone += await shippingMs(run, service, pause);
      else
        beside += await shippingMs(run, service, async () => {
          await scatter();
          await pause();
        });
    }
    const cost = Math.round((beside / alone - 1) * 100);
    Object.assign(run.outcome.figures, {
      scattered,
      aloneMs: Math.round(alone),
      besideMs: Math.round(beside),
      costPercent: cost,
    });
    run.expect(
      !service.lines.some(({ reason }) => /too many p/i.test(String(reason))),
      'ClickHouse had too many parts or partitions',
    );
    await service.settled(240_000);
    const total = await fetch(`${service.url}/metrics?event_name=${SCATTERED}`);
    const { total_events: counted } = (await total.json()) as { total_events: number };
    run.expect(counted === scattered, `${counted} of ${scattered} scattered events count`);
    await run.conclude(service, clickhouse, { ignoring: SCATTERED });
  },
};

async function pause(): Promise<void> {
  await new Promise((resolve) => {
    setTimeout(resolve, 1_000 / 5);
  });
}

export const ROW_FAULTS: readonly Fault[] = [poison, anyTimestamps];
