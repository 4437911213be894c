import type { Logger } from '../shared/log.js';

/**
 * The order in which the process ends (api.md, "Process"). Every step is bounded: what cannot be done in its time is left in
 * the log, which is the same as being killed, and that loses nothing.
 */
export interface ShutdownSteps {
  /** Readiness turns 503, answers close their connections. */
  startDraining(): void;
  /** No new connections; a request on an open one gets 503. */
  refuseNew(): void;
  /** Event requests and queries that have no answer yet. */
  openRequests(): number;
  /** Answers what is left with 503. */
  giveUpOpen(): void;
  stopEncoders(): Promise<void>;
  drainLog(): Promise<void>;
  drainShipper(timeoutMs: number): Promise<void>;
  /** Sockets, ClickHouse, the lock. */
  closeRest(): Promise<void>;
}

export interface ShutdownOptions {
  readonly drainDelayMs: number;
  readonly drainTimeoutMs: number;
  readonly log: Logger;
}

/** How often open requests are counted while the last of them are answered. */
const POLL_MS = 5;
/** Kept of the drain time for what comes after the requests: committing and shipping the rest. */
const REQUESTS_SHARE = 0.6;
/** Encoders and log have milliseconds of work left; a thread that hangs must not hold up the end. */
const THREADS_MS = 3_000;
const CLOSE_MS = 6_000;

export async function shutDown(
  steps: ShutdownSteps,
  { drainDelayMs, drainTimeoutMs, log }: ShutdownOptions,
): Promise<void> {
  steps.startDraining();
  await pause(drainDelayMs);
  const from = performance.now();
  const leftMs = (): number => Math.max(0, drainTimeoutMs - (performance.now() - from));
  steps.refuseNew();
  while (steps.openRequests() > 0 && performance.now() - from < drainTimeoutMs * REQUESTS_SHARE) await pause(POLL_MS);
  if (steps.openRequests() > 0) {
    log.warn({ requests: steps.openRequests() }, 'requests without a complete body are refused');
    steps.giveUpOpen();
  }
  await within(THREADS_MS, steps.stopEncoders(), 'encoders', log);
  await within(THREADS_MS, steps.drainLog(), 'log', log);
  const shipMs = leftMs();
  await within(shipMs + 1_000, steps.drainShipper(shipMs), 'shipper', log);
  await within(CLOSE_MS, steps.closeRest(), 'rest', log);
  log.info({ tookMs: Math.round(performance.now() - from) }, 'stopped');
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

async function within(ms: number, step: Promise<void>, name: string, log: Logger): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      log.warn({ step: name, ms }, 'a step of the shutdown took too long and is left behind');
      resolve();
    }, ms);
  });
  const ended = step.catch((error: unknown) => {
    log.warn({ step: name, err: error }, 'a step of the shutdown failed; what follows it is done all the same');
  });
  await Promise.race([ended, timeout]);
  clearTimeout(timer);
}
