import fs from 'node:fs';
import type { Producer, Range } from './producer.js';
import { Service, type ServiceOptions } from './service.js';

/** A load with `kill -9` in the middle of it, round by round, on one data directory. */

/** Who is killed. `clickhouse` alone is started again by the service, whose clients must not notice. */
export const VICTIMS = ['service', 'service and clickhouse', 'clickhouse'] as const;
export type Victim = (typeof VICTIMS)[number];

export interface KillsOptions {
  readonly service: Service;
  /** With what the service is started again. */
  readonly restart: ServiceOptions;
  readonly producer: Producer;
  readonly work: { readonly singles: Range; readonly bulk: Range };
  readonly kills: number;
  /** Whom to kill, in turn. */
  readonly victims?: readonly Victim[];
  readonly onKill?: (round: number, victim: Victim, startMs: number) => void;
}

/** Resolves with the service that is running at the end, when all of the work is acknowledged. */
export async function runWithKills({
  service,
  restart,
  producer,
  work,
  kills,
  victims = VICTIMS,
  onKill,
}: KillsOptions): Promise<Service> {
  let running = service;
  const events = work.singles[1] - work.singles[0] + (work.bulk[1] - work.bulk[0]);
  const before = producer.tally.acknowledgements;
  producer.url = running.url;
  const sent = producer.run(work);
  for (let round = 1; round <= kills; round += 1) {
    await Promise.race([producer.acknowledged(before + Math.floor((events * round) / (kills + 1))), sent]);
    const victim = victims[(round - 1) % victims.length] ?? 'service';
    if (victim !== 'service') for (const child of childrenOf(running.pid)) process.kill(child, 'SIGKILL');
    if (victim === 'clickhouse') {
      onKill?.(round, victim, 0);
      continue;
    }
    await running.kill();
    producer.url = undefined;
    const from = performance.now();
    running = await Service.start({ ...restart, dataDir: service.dataDir });
    onKill?.(round, victim, performance.now() - from);
    producer.url = running.url;
  }
  await sent;
  return running;
}

/** The processes that a process has started: the embedded ClickHouse is the only child of the service. */
export function childrenOf(pid: number): number[] {
  return fs
    .readdirSync(`/proc/${pid}/task`)
    .flatMap((thread) => fs.readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' '))
    .filter((text) => text !== '')
    .map(Number);
}
