import type { HttpRequest, HttpResponse, TemplatedApp } from 'uWebSockets.js';
import type { Config } from '../shared/config.js';
import { messageOf, RequestError } from '../shared/errors.js';
import type { Logger } from '../shared/log.js';
import type { AnswerTally } from './answer-tally.js';
import type { Cells } from './cells.js';
import type { ClickHouseLink } from './clickhouse-link.js';
import type { Flusher } from './flusher.js';
import type { Ingestion } from './ingestion.js';
import type { PrometheusPage } from './prometheus.js';
import type { Readiness } from './readiness.js';
import { send, sendError } from './reply.js';
import { DOCS_PATHS, mountDocs } from './routes/docs.js';
import { mountEvents } from './routes/events.js';
import { HEALTH_PATHS, mountHealth } from './routes/health.js';
import { metricsHandler, OpenQuestions, type RouteHandler } from './routes/metrics.js';
import { isHead, Listener } from './server.js';

/** The two listeners and what each serves (api.md, "Listeners"). */

export interface ListenerParts {
  readonly config: Config;
  readonly log: Logger;
  readonly ingestion: Ingestion;
  readonly flusher: Flusher;
  readonly clickhouse: ClickHouseLink;
  readonly readiness: Readiness;
  readonly prometheus: PrometheusPage;
  readonly rollups: RollupState;
  readonly cells: Cells;
  readonly tally: AnswerTally;
}

/** What this instance knows of the rollups. */
export interface RollupState {
  /** `behind` while they have not caught up with what was shipped, or lag: answers come from raw rows then. */
  readonly state: () => 'ready' | 'behind';
  /** Unix seconds with fraction: every event that this instance acknowledged before it is in them. */
  readonly asOf: () => number;
}

const READ = ['GET', 'HEAD'] as const;

export interface Listeners {
  readonly url: string;
  readonly adminUrl: string;
  /** Metrics queries that are not answered yet. */
  readonly questions: OpenQuestions;
  stopListening(): void;
  close(): void;
}

/** Opens both, or neither. */
export async function openListeners(parts: ListenerParts): Promise<Listeners> {
  const { config } = parts;
  const common = everyOne(HEALTH_PATHS, READ);
  const listeners: Listener[] = [];
  const questions = new OpenQuestions();
  try {
    listeners.push(
      await Listener.open({
        name: 'public',
        host: config.host,
        port: config.port,
        mount: (app) => mountPublic(app, parts, questions),
        methods: {
          ...common,
          ...everyOne(DOCS_PATHS, READ),
          '/metrics': READ,
          '/events': ['POST'],
          '/events/bulk': ['POST'],
        },
      }),
    );
    listeners.push(
      await Listener.open({
        name: 'admin',
        host: config.adminHost,
        port: config.adminPort,
        mount: (app) => mountAdmin(app, parts),
        methods: { ...common, '/metrics': READ },
      }),
    );
  } catch (error) {
    for (const listener of listeners) listener.close();
    throw error;
  }
  const [open, admin] = listeners;
  return {
    url: open?.url ?? '',
    adminUrl: admin?.url ?? '',
    questions,
    // The admin listener stays until the end: a drain is when one wants to look.
    stopListening: () => open?.stopListening(),
    close: () => {
      for (const listener of listeners) listener.close();
    },
  };
}

function everyOne(paths: readonly string[], methods: readonly string[]): Record<string, readonly string[]> {
  return Object.fromEntries(paths.map((path) => [path, methods]));
}

function mountPublic(
  app: TemplatedApp,
  { config, log, ingestion, flusher, clickhouse, readiness, rollups, cells, tally }: ListenerParts,
  open: OpenQuestions,
): void {
  mountEvents(app, ingestion.intake);
  mountHealth(app, readiness);
  mountDocs(app, config);
  const metrics = metricsHandler({
    client: clickhouse.client,
    database: config.clickhouseDatabase,
    timeoutMs: config.metricsTimeoutMs,
    concurrency: config.metricsConcurrency,
    retentionDays: config.retentionDays,
    rollups: rollups.state,
    asOfShipped: () => flusher.asOfShipped(),
    asOfRolled: rollups.asOf,
    cells: config.metricsMemoryBytes > 0 ? cells : undefined,
    tally,
    log,
    open,
  });
  const guarded: RouteHandler = (res, req) => {
    if (isAllowed(res, req, ingestion)) metrics(res, req);
  };
  app.get('/metrics', guarded);
  app.head('/metrics', guarded);
}

function isAllowed(res: HttpResponse, req: HttpRequest, { keys, drainRefusal }: Ingestion): boolean {
  try {
    keys.authorize(req, 'read');
    if (drainRefusal !== undefined) throw drainRefusal;
    return true;
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    sendError(res, error, {
      ...(error.code === 'unauthorized' ? { headers: [['WWW-Authenticate', 'Bearer']] } : {}),
      headOnly: isHead(req),
    });
    return false;
  }
}

function mountAdmin(app: TemplatedApp, { prometheus, readiness, log }: ListenerParts): void {
  mountHealth(app, readiness);
  const page = async (res: HttpResponse, headOnly: boolean): Promise<void> => {
    let gone = false;
    res.onAborted(() => {
      gone = true;
    });
    try {
      const body = await prometheus.render();
      if (!gone) send(res, { status: 200, body, contentType: prometheus.contentType, headOnly });
    } catch (error) {
      log.error({ err: error }, 'the Prometheus page cannot be made');
      if (!gone) sendError(res, new RequestError('internal_error', messageOf(error)));
    }
  };
  app.get('/metrics', (res) => void page(res, false));
  app.head('/metrics', (res) => void page(res, true));
}
