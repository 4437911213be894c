import fs from 'node:fs';
import { createFlow } from '../shared/channel.js';
import { type Config, redactedConfig } from '../shared/config.js';
import { Counters, createCounters } from '../shared/counters.js';
import { announce, createLogger, type Logger } from '../shared/log.js';
import { VERSION } from '../shared/version.js';
import { walDirectory } from '../workers/flusher/wal/file-system.js';
import { AnswerTally } from './answer-tally.js';
import { Cells } from './cells.js';
import { ClickHouseLink } from './clickhouse-link.js';
import { DataDirLock } from './data-dir-lock.js';
import { Flusher } from './flusher.js';
import { ForgottenList } from './forgotten-list.js';
import { Ingestion } from './ingestion.js';
import { type Listeners, openListeners, type RollupState } from './listeners.js';
import { PrometheusPage } from './prometheus.js';
import { type ReadinessReport, reportReadiness } from './readiness.js';
import { type ShutdownSteps, shutDown } from './shutdown.js';

/** Starts the parts in order, and ends them in order. */

/** A part without which nothing can be accepted has ended; the log is recovered by the next start (sysexits: EX_SOFTWARE). */
const EXIT_BROKEN = 70;

/** Where the rollup is this much older than the raw rows, questions are answered from those: slowly, but up to date. */
const ROLLUP_LAG_MAX_S = 60;

interface Parts {
  readonly config: Config;
  readonly log: Logger;
  readonly lock: DataDirLock;
  readonly counters: Counters;
  readonly flusher: Flusher;
  readonly ingestion: Ingestion;
  readonly clickhouse: ClickHouseLink;
  readonly forgotten: ForgottenList;
  readonly rollups: RollupState;
  readonly cells: Cells;
  readonly tally: AnswerTally;
}

export async function serve(config: Config): Promise<void> {
  const log = createLogger({ level: config.logLevel, thread: 'main' });
  log.info({ version: VERSION, node: process.version, config: redactedConfig(config) }, 'starting');
  const parts = await startParts(config, log);
  const { clickhouse } = parts;
  await clickhouse.prepare();
  const listed = parts.forgotten.start();
  if (clickhouse.fault === undefined) await listed;
  const readiness = { report: () => readinessOf(parts) };
  const listeners = await openListeners({ ...parts, readiness, prometheus: prometheusOf(parts) });
  endOnSignal(parts, listeners);
  announce(log, 'listening', {
    url: listeners.url,
    adminUrl: listeners.adminUrl,
    clickhouseUrl: clickhouse.access.url,
  });
}

/** Everything behind the listeners: the log is open and takes rows, the encoders run, ClickHouse is known. */
async function startParts(config: Config, log: Logger): Promise<Parts> {
  const lock = await DataDirLock.acquire(config.dataDir);
  fs.mkdirSync(walDirectory(config.dataDir), { recursive: true, mode: 0o700 });
  const countersMemory = createCounters();
  const counters = new Counters(countersMemory);
  const flow = createFlow(countersMemory);
  let collect = (): void => undefined;
  let follow = (): void => undefined;
  const flusher = new Flusher(config, flow, {
    wake: () => collect(),
    died: (thread, error) => {
      const what = 'a thread that owns durable state has ended; a restart recovers from the log';
      log.fatal({ err: error, flusherThread: thread }, what);
      process.exit(EXIT_BROKEN);
    },
    rollerDied: (error) => log.error({ err: error }, 'the roller has ended and is started again'),
    rollerStarted: () => follow(),
  });
  await flusher.startLog();
  const ingestion = new Ingestion(config, flow, flusher, counters, log);
  collect = () => ingestion.collect();
  const clickhouse = await ClickHouseLink.open(config, flusher, counters, log);
  lock.announce({ url: clickhouse.access.url, embedded: config.clickhouseUrl === undefined });
  const forgotten = new ForgottenList({
    client: clickhouse.client,
    database: config.clickhouseDatabase,
    memory: ingestion.encoders.forgottenUsers,
    log,
  });
  const { url, user, password, database } = clickhouse.access;
  const cells = new Cells({
    clickhouse: { url, user, password, database },
    bytesMax: config.metricsMemoryBytes,
    logLevel: config.logLevel,
    followCommits: (port) => flusher.followCommits(port),
    log,
  });
  follow = () => cells.rollerStarted();
  const tally = new AnswerTally();
  const rollups: RollupState = {
    state: () =>
      flusher.rollupReady && flusher.asOfShipped() - flusher.asOfRolled() < ROLLUP_LAG_MAX_S ? 'ready' : 'behind',
    asOf: () => flusher.asOfRolled(),
  };
  return { config, log, lock, counters, flusher, ingestion, clickhouse, forgotten, rollups, cells, tally };
}

function readinessOf({ config, flusher, ingestion, clickhouse }: Parts): ReadinessReport {
  return reportReadiness({
    draining: ingestion.isDraining,
    logState: flusher.logState,
    walBytes: ingestion.walBytes,
    walMaxBytes: config.walMaxBytes,
    encodersFault: ingestion.encoders.fault,
    encodersDown: ingestion.encoders.running === 0,
    clickhouseFault: clickhouse.fault,
    requiresClickhouse: config.readyRequiresClickhouse,
  });
}

function prometheusOf(parts: Parts): PrometheusPage {
  const { counters, flusher, ingestion, clickhouse, cells, tally } = parts;
  return new PrometheusPage({
    counters,
    latency: ingestion.latency,
    refusals: ingestion.responder.refusals,
    answers: tally,
    version: VERSION,
    now: () => ({
      openRequests: ingestion.requests.open,
      bodyBytes: ingestion.requests.bytes,
      walBytes: ingestion.walBytes,
      pendingSegments: flusher.pendingSegments,
      oldestUnshippedSeconds: Math.max(0, Date.now() / 1000 - flusher.asOfShipped()),
      oldestUnrolledSeconds: Math.max(0, Date.now() / 1000 - flusher.asOfRolled()),
      ready: readinessOf(parts).status === 200,
      clickhouseUp: clickhouse.fault === undefined,
      encoders: ingestion.encoders.running,
      deadLetterBytes: counters.get('deadLetterBytes'),
      cellBytes: cells.bytes,
    }),
  });
}

/** The first SIGTERM or SIGINT ends the parts in order, a second one the process. */
function endOnSignal(parts: Parts, listeners: Listeners): void {
  const { log } = parts;
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    signals += 1;
    if (signals > 1) {
      log.warn({ signal }, 'second signal: stopping at once; what is acknowledged is in the log');
      process.exit(signal === 'SIGINT' ? 130 : 143);
    }
    log.info({ signal }, 'stopping');
    shutDown(stepsOf(parts, listeners), { ...parts.config, log })
      .then(() => process.exit(0))
      .catch((error: unknown) => {
        log.fatal({ err: error }, 'the shutdown failed; what is acknowledged is in the log');
        process.exit(EXIT_BROKEN);
      });
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
}

function stepsOf(
  { config, lock, flusher, ingestion, clickhouse, forgotten, cells }: Parts,
  listeners: Listeners,
): ShutdownSteps {
  return {
    startDraining: () => ingestion.startDraining(config.drainDelayMs + config.drainTimeoutMs),
    refuseNew: () => {
      listeners.stopListening();
      ingestion.refuseNew();
    },
    openRequests: () => ingestion.requests.open + listeners.questions.count,
    giveUpOpen: () => {
      ingestion.giveUpOpen();
      if (ingestion.drainRefusal !== undefined) listeners.questions.giveUp(ingestion.drainRefusal);
    },
    stopEncoders: () => ingestion.encoders.stop(),
    drainLog: () => flusher.drainLog(),
    drainShipper: (timeoutMs) => flusher.drainShipper(timeoutMs),
    closeRest: async () => {
      ingestion.stop();
      listeners.close();
      forgotten.stop();
      await cells.stop();
      await flusher.stopRoller();
      await clickhouse.close();
      lock.release();
    },
  };
}
