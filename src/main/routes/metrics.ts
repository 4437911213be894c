import type { Logger } from 'pino';
import type { HttpRequest, HttpResponse } from 'uWebSockets.js';
import { clickHouseReason } from '../../shared/clickhouse/client.js';
import { classifyQueryFailure } from '../../shared/clickhouse/query-failure.js';
import { RequestError } from '../../shared/errors.js';
import { parseMetricsQuestion } from '../../shared/metrics/parameters.js';
import { clampQuestion } from '../../shared/metrics/retention.js';
import { GROUPS_MAX } from '../../shared/metrics/statement.js';
import { retentionEdgeS } from '../../shared/retention.js';
import { MetricsRunner, type MetricsSources, tooCostly } from '../metrics-runner.js';
import { QueryGate } from '../query-gate.js';
import { send, sendError } from '../reply.js';

/**
 * GET /metrics: question in, answer out. A query ends with its reason to be: the client's hanging up cancels it in ClickHouse too.
 */

export interface MetricsDeps extends MetricsSources {
  /** Questions that run at once; each may wait as long for its turn as it may run. */
  readonly concurrency: number;
  /** Absent: all events count, however old. */
  readonly retentionDays?: number | undefined;
  readonly log: Logger;
  /** Those of this handler, where somebody wants to know of them. */
  readonly open?: OpenQuestions;
}

/** Questions without an answer, so that a process that ends can wait for them, and give up on what takes too long. */
export class OpenQuestions {
  readonly #open = new Set<AbortController>();

  get count(): number {
    return this.#open.size;
  }

  begin(): AbortController {
    const stop = new AbortController();
    this.#open.add(stop);
    return stop;
  }

  end(stop: AbortController): void {
    this.#open.delete(stop);
  }

  /** Answers all of them with `reason`. */
  giveUp(reason: RequestError): void {
    for (const stop of this.#open) stop.abort(reason);
  }
}

export type RouteHandler = (res: HttpResponse, req: HttpRequest) => void;

/** Questions that may wait for each one that runs. */
const QUEUE_PER_QUERY = 8;
/** `Retry-After` doubles with each failure in a row up to this. */
const RETRY_AFTER_MAX_S = 30;

export function metricsHandler(deps: MetricsDeps): RouteHandler {
  const gate = new QueryGate({
    concurrency: deps.concurrency,
    queueMax: deps.concurrency * QUEUE_PER_QUERY,
    waitMaxMs: deps.timeoutMs,
  });
  const runner = new MetricsRunner(deps);
  const failures = new FailureLog(deps.log);
  const { open = new OpenQuestions() } = deps;
  return (res, req) => {
    const stop = open.begin();
    let gone = false;
    res.onAborted(() => {
      gone = true;
      stop.abort();
    });
    // `req` is gone after this turn. Its getQuery(key) mis-decodes, so the raw text is read; there is none without a `?`.
    const rawQuery = (req.getQuery() as string | undefined) ?? '';
    const headOnly = req.getMethod() === 'head';
    const answered = async (): Promise<void> => {
      try {
        const question = clampQuestion(parseMetricsQuestion(rawQuery), retentionEdgeS(deps.retentionDays, Date.now()));
        const { body, done } = await gate.run(stop.signal, () => runner.ask(question, stop.signal));
        failures.none();
        if (!gone) send(res, { status: 200, body, headOnly, done });
      } catch (error) {
        if (gone) return;
        const why: unknown = stop.signal.aborted ? stop.signal.reason : error;
        sendError(res, failures.toRequestError(why, gate.retryAfterS), { headOnly });
      } finally {
        open.end(stop);
      }
    };
    void answered();
  };
}

/** Turns failures into answers, and logs a lasting one when it begins and when it ends rather than at every question. */
class FailureLog {
  readonly #log: Logger;
  #inARow = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  none(): void {
    if (this.#inARow > 0) this.#log.info({ failures: this.#inARow }, 'ClickHouse answers metrics queries again');
    this.#inARow = 0;
  }

  toRequestError(error: unknown, queueRetryAfterS: number): RequestError {
    if (error instanceof RequestError) return error;
    const reason = clickHouseReason(error);
    switch (classifyQueryFailure(error)) {
      case 'size':
        return tooCostly(`has more than ${GROUPS_MAX} groups`, error);
      case 'memory':
      case 'limit':
        this.#log.warn({ reason }, 'metrics query stopped at its limit');
        return new RequestError(
          'query_limit',
          'the query needs more time or memory than one may have: narrow its range',
          {
            retryAfterS: queueRetryAfterS,
            cause: error,
          },
        );
      case 'busy':
        return new RequestError('overloaded', 'ClickHouse runs too many queries', {
          retryAfterS: queueRetryAfterS,
          cause: error,
        });
      case 'misconfigured':
      case 'away': {
        if (this.#inARow === 0) this.#log.warn({ reason }, 'ClickHouse does not answer metrics queries');
        this.#inARow += 1;
        const retryAfterS = Math.min(RETRY_AFTER_MAX_S, 2 ** Math.min(this.#inARow - 1, 5));
        return new RequestError('clickhouse_unavailable', 'ClickHouse is not available', { retryAfterS, cause: error });
      }
      case 'ours':
      default:
        this.#log.error({ err: error }, 'metrics query failed');
        return new RequestError('internal_error', 'the query failed', { retryAfterS: queueRetryAfterS, cause: error });
    }
  }
}
