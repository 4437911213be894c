import { type MessagePort, workerData } from 'node:worker_threads';
import { FLOW_SLOT, type FlowMemory, type ShippedMessage, type ShipperMessage } from '../../shared/channel.js';
import { createClickHouse } from '../../shared/clickhouse/client.js';
import type { LogLevel } from '../../shared/config.js';
import { Doorbell, Sleeper } from '../../shared/doorbell.js';
import { createLogger } from '../../shared/log.js';
import type { Batch } from './batch.js';
import { Disposal } from './disposal.js';
import { Shipper } from './shipper.js';
import { nodeFileSystem } from './wal/file-system.js';

/** The shipper thread: sealed segments to ClickHouse, asynchronously. Shares segment files and counters with the log thread. */

export interface ShipWorkerData {
  readonly flow: FlowMemory;
  readonly walDirectory: string;
  readonly deadLetterDirectory: string;
  readonly deadLetterMaxBytes: number;
  readonly walKeepMs: number;
  readonly walMaxBytes: number;
  readonly logLevel: LogLevel;
  readonly clickhouse: {
    readonly url: string;
    readonly user: string;
    readonly password: string;
    readonly database: string;
    readonly requestTimeoutMs: number;
  };
  /** ShipperMessages from main. */
  readonly messages: MessagePort;
  /** From the log thread: any message wakes the shipper. */
  readonly wakes: MessagePort;
}

async function run(data: ShipWorkerData): Promise<void> {
  const { flow, logLevel, clickhouse, messages, wakes } = data;
  const log = createLogger({ level: logLevel, thread: 'shipper', sync: true });
  const client = createClickHouse({ ...clickhouse, maxOpenConnections: 2 });
  const { walDirectory: directory, walKeepMs: keepMs, walMaxBytes } = data;
  const disposal = new Disposal({ fs: nodeFileSystem, directory, keepMs, walMaxBytes });
  let roller: MessagePort | undefined;
  const onShipped = (ordinal: number, completed: readonly Batch[]): void => {
    const batches = completed.map(({ token, rows, receivedFromUs, receivedToUs }) => ({
      token,
      rows,
      receivedFromUs,
      receivedToUs,
    }));
    const message: ShippedMessage = { ordinal, batches };
    roller?.postMessage(message);
  };
  const shipper = new Shipper({ ...data, disposal, client, database: clickhouse.database, log, onShipped });
  const slots = new Int32Array(flow.slots);
  const logBell = new Doorbell(flow.logBell);
  const sleeper = new Sleeper(flow.shipperBell);
  let draining = false;
  let wake = (): void => undefined;

  wakes.on('message', () => wake());
  messages.on('message', (message: ShipperMessage) => {
    if (message.type === 'roller') {
      roller?.close();
      roller = message.port;
      onShipped(shipper.shippedThrough, []);
      return;
    }
    draining = true;
    setTimeout(() => shipper.stop(), message.timeoutMs).unref();
    wake();
  });

  for (;;) {
    if (await shipper.shipNext()) continue;
    if (shipper.stopped) break;
    // Idleness is stored before the log thread is rung and before we look again: neither side can miss the other.
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    sleeper.prepare();
    Atomics.store(slots, FLOW_SLOT.shipperIdle, 1);
    logBell.ring();
    if (shipper.pending > 0) sleeper.stayAwake();
    else if (draining) break;
    else await woken;
    Atomics.store(slots, FLOW_SLOT.shipperIdle, 0);
  }
  if (shipper.pending > 0)
    log.warn({ segments: shipper.pending }, 'stopped before everything was shipped; the rest ships at the next start');
  await client.close();
  roller?.close();
  messages.close();
  wakes.close();
}

await run(workerData as ShipWorkerData);
