import { setTimeout as sleep } from 'node:timers/promises';
import { type MessagePort, workerData } from 'node:worker_threads';
import { FLOW_SLOT, type FlowMemory, type ShippedMessage } from '../../shared/channel.js';
import type { RollerMessage } from '../../shared/cells.js';
import { clickHouseReason, createClickHouse } from '../../shared/clickhouse/client.js';
import type { LogLevel } from '../../shared/config.js';
import { Counters } from '../../shared/counters.js';
import { createLogger } from '../../shared/log.js';
import { yieldToRequests } from '../../shared/priority.js';
import { retentionEdgeMs } from '../../shared/retention.js';
import { backoffMs } from '../flusher/retry.js';
import { followerAt } from './follower.js';
import { Housekeeping } from './housekeeping.js';
import { Roller } from './roller.js';
import { Shipped } from './shipped.js';

/** The roller thread: what the shipper brought into ClickHouse into the rollup, asynchronously. */

export interface RollWorkerData {
  readonly flow: FlowMemory;
  readonly logLevel: LogLevel;
  readonly clickhouse: {
    readonly url: string;
    readonly user: string;
    readonly password: string;
    readonly database: string;
  };
  readonly retentionDays: number | undefined;
  /** ShippedMessages from the shipper. */
  readonly shipped: MessagePort;
  /** RollerMessages from main. */
  readonly control: MessagePort;
}

/** Nothing new: other instances' batches are looked for as often as this. */
const IDLE_MS = 500;
/** A roll of a large backlog may take this long. */
const REQUEST_TIMEOUT_MS = 300_000;
/**
 * Under load, steps begin so far apart, ms, and further where they take more than a share of that time: each costs ClickHouse some ten
 * statements and parts, however many rows it adds. Nobody else may take it that this roller has gone (`leaveToOthersMs`).
 */
const BUSY_PERIOD_MS = { min: 2_000, max: 5_000 } as const;
const BUSY_SHARE = 0.05;
const BUSY_ROWS = 8_000;
/** So many rows that wait are worth a step whatever the time: more of them only take more memory. */
const STEP_ROWS = 100_000;
/** Of the time that a step took, this share is left to others before the next one of a backlog, up to so many ms. */
const REST = 0.25;
const REST_MAX_MS = 1_000;

async function run({ flow, logLevel, clickhouse, retentionDays, shipped, control }: RollWorkerData): Promise<void> {
  yieldToRequests('thread');
  const log = createLogger({ level: logLevel, thread: 'roller', sync: true });
  const client = createClickHouse({ ...clickhouse, requestTimeoutMs: REQUEST_TIMEOUT_MS, maxOpenConnections: 2 });
  const counters = new Counters(flow.counters);
  const slots = new Int32Array(flow.slots);
  const stopping = new AbortController();
  const segments = new Shipped((ordinal) => Atomics.store(slots, FLOW_SLOT.rolledThrough, ordinal));
  const roller = new Roller({
    client,
    database: clickhouse.database,
    counters,
    log,
    signal: stopping.signal,
    onRolled: (tokens) => segments.rolled(tokens),
    onCaughtUp: () => {
      segments.caughtUp();
      Atomics.store(slots, FLOW_SLOT.rollupReady, 1);
    },
    keptFromMs: () => retentionEdgeMs(retentionDays, Date.now()),
  });
  const housekeeping = new Housekeeping({ client, database: clickhouse.database, retentionDays, log });
  const bed = new Bed();
  /** What is announced ends a rest when so many rows wait. */
  let enoughRows = 0;
  const greeted = new Promise<void>((resolve) => {
    shipped.on('message', ({ ordinal, batches }: ShippedMessage) => {
      segments.announce(ordinal, batches);
      for (const batch of batches) roller.offer(batch);
      resolve();
      if (roller.pendingRows >= enoughRows) bed.wake();
    });
  });
  control.on('message', (message: RollerMessage) => {
    if (message.type === 'stop') stopping.abort();
    else roller.follow(followerAt(message.port));
    bed.wake();
  });
  // What the ledger is asked for after that has everything that is not announced.
  await Promise.race([greeted, new Promise((resolve) => stopping.signal.addEventListener('abort', resolve))]);
  for (let failures = 0; !stopping.signal.aborted;) {
    const from = performance.now();
    const before = counters.get('rolledRows');
    try {
      await housekeeping.whenDue();
      const worked = await roller.step();
      if (failures > 0) log.info({ failures }, 'rolling goes on');
      failures = 0;
      const took = performance.now() - from;
      const busy = counters.get('rolledRows') - before > BUSY_ROWS && !roller.isBehind;
      enoughRows = busy ? STEP_ROWS : 0;
      if (busy && roller.pendingRows < enoughRows) await bed.rest(Math.max(0, busyPeriodMs(took) - took));
      else if (worked) await sleep(Math.min(took * REST, REST_MAX_MS));
      else await bed.rest(IDLE_MS);
    } catch (error) {
      if (stopping.signal.aborted) break;
      failures += 1;
      counters.add('rollFailures', 1);
      const retryInMs = backoffMs(failures, Math.random());
      if ((failures & (failures - 1)) === 0) {
        const reason = clickHouseReason(error);
        log.warn({ attempt: failures, reason, retryInMs }, 'the rollup is behind until this works');
      }
      await bed.rest(retryInMs);
    }
  }
  await client.close();
  shipped.close();
  control.close();
}

function busyPeriodMs(tookMs: number): number {
  return Math.min(BUSY_PERIOD_MS.max, Math.max(BUSY_PERIOD_MS.min, tookMs / BUSY_SHARE));
}

/** Sleeps for a while, or until there is news. */
class Bed {
  #wake = (): void => undefined;

  wake(): void {
    this.#wake();
  }

  async rest(ms: number): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const timer = new AbortController();
    await Promise.race([woken, sleep(ms, undefined, { signal: timer.signal }).catch(() => undefined)]);
    timer.abort();
  }
}

await run(workerData as RollWorkerData);
