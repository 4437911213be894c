import fs from 'node:fs';
import { createFlow } from '../shared/channel.js';
import type { Config } from '../shared/config.js';
import { redactedConfig } from '../shared/config.js';
import { Counters, createCounters } from '../shared/counters.js';
import { announce, createLogger } from '../shared/log.js';
import { VERSION } from '../shared/version.js';
import { walDirectory } from '../workers/flusher/wal/file-system.js';
import { ClickHouseLink } from './clickhouse-link.js';
import { DataDirLock } from './data-dir-lock.js';
import { Flusher } from './flusher.js';
import { Ingestion } from './ingestion.js';
import { openListeners } from './listeners.js';
import { PrometheusPage } from './prometheus.js';
import { reportReadiness } from './readiness.js';
import { shutDown } from './shutdown.js';

/** Starts the parts in order, and ends them in order. */

/** A part without which nothing can be accepted has ended; the log is recovered by the next start (sysexits: EX_SOFTWARE). */
const EXIT_BROKEN = 70;

export async function serve(config: Config): Promise<void> {
  const log = createLogger({ level: config.logLevel, thread: 'main' });
  log.info({ version: VERSION, node: process.version, config: redactedConfig(config) }, 'starting');
  const lock = await DataDirLock.acquire(config.dataDir);
  fs.mkdirSync(walDirectory(config.dataDir), { recursive: true, mode: 0o700 });

  const countersMemory = createCounters();
  const counters = new Counters(countersMemory);
  const flow = createFlow(countersMemory);
  let ingestion: Ingestion | undefined;
  const flusher = new Flusher(config, flow, {
    wake: () => ingestion?.collect(),
    died: (thread, error) => {
      log.fatal({ err: error, flusherThread: thread }, 'a thread that owns durable state has ended; a restart recovers from the log');
      process.exit(EXIT_BROKEN);
    },
  });
  await flusher.startLog();
  ingestion = new Ingestion(config, flow, flusher, counters, log);
  const { encoders, requests, latency, responder } = ingestion;
  const clickhouse = await ClickHouseLink.open(config, flusher, counters, log);
  await clickhouse.prepare();

  const running = ingestion;
  const readiness = {
    report: () =>
      reportReadiness({
        draining: running.isDraining,
        logState: flusher.logState,
        walBytes: running.walBytes,
        walMaxBytes: config.walMaxBytes,
        encodersFault: encoders.fault,
        encodersDown: encoders.running === 0,
        clickhouseFault: clickhouse.fault,
        requiresClickhouse: config.readyRequiresClickhouse,
      }),
  };
  const prometheus = new PrometheusPage({
    counters,
    latency,
    refusals: responder.refusals,
    version: VERSION,
    now: () => ({
      openRequests: requests.open,
      bodyBytes: requests.bytes,
      walBytes: running.walBytes,
      pendingSegments: flusher.pendingSegments,
      oldestUnshippedSeconds: Math.max(0, Date.now() / 1000 - flusher.asOf()),
      ready: readiness.report().status === 200,
      clickhouseUp: clickhouse.fault === undefined,
      encoders: encoders.running,
    }),
  });
  const listeners = await openListeners({ config, log, ingestion, flusher, clickhouse, readiness, prometheus });

  const end = async (): Promise<void> => {
    await shutDown(
      {
        startDraining: () => running.startDraining(config.drainDelayMs + config.drainTimeoutMs),
        refuseNew: () => {
          listeners.stopListening();
          running.refuseNew();
        },
        openRequests: () => requests.open,
        giveUpOpen: () => running.giveUpOpen(),
        stopEncoders: () => encoders.stop(),
        drainLog: () => flusher.drainLog(),
        drainShipper: (timeoutMs) => flusher.drainShipper(timeoutMs),
        closeRest: async () => {
          running.stop();
          listeners.close();
          await clickhouse.close();
          lock.release();
        },
      },
      { drainDelayMs: config.drainDelayMs, drainTimeoutMs: config.drainTimeoutMs, log },
    );
    process.exit(0);
  };
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    signals += 1;
    if (signals > 1) {
      log.warn({ signal }, 'second signal: stopping at once; what is acknowledged is in the log');
      process.exit(signal === 'SIGINT' ? 130 : 143);
    }
    log.info({ signal }, 'stopping');
    end().catch((error: unknown) => {
      log.fatal({ err: error }, 'the shutdown failed; what is acknowledged is in the log');
      process.exit(EXIT_BROKEN);
    });
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);

  announce(log, 'listening', { url: listeners.url, adminUrl: listeners.adminUrl, clickhouseUrl: clickhouse.access.url });
}
