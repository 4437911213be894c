import type { ClickHouseClient } from '@clickhouse/client';
import type { Logger } from 'pino';
import type { HttpRequest, HttpResponse } from 'uWebSockets.js';
import { clickHouseReason } from '../../shared/clickhouse/client.js';
import { type MetricsQuestion, parseMetricsQuestion } from '../../shared/clickhouse/metrics-parameters.js';
import {
  buildMetricsStatement,
  type MetricsAnswer,
  type MetricsRow,
  readMetricsAnswer,
} from '../../shared/clickhouse/metrics-query.js';
import { clampQuestion } from '../../shared/clickhouse/metrics-retention.js';
import { classifyQueryFailure, QueryHangs } from '../../shared/clickhouse/query-failure.js';
import { RequestError } from '../../shared/errors.js';
import { retentionEdgeS } from '../../shared/retention.js';
import { QueryGate } from '../query-gate.js';
import { sendError, sendJson } from '../reply.js';

/**
 * GET /metrics: question in, one SELECT, answer out.
 *
 * Invariant: `as_of` is read before the query is sent, so that whatever was in ClickHouse by then is in the answer.
 * A query ends with its reason to be: the client's hanging up cancels it in ClickHouse too.
 */

export interface MetricsDeps {
  readonly client: ClickHouseClient;
  readonly database: string;
  /** How long one query may run in ClickHouse, and how long it may wait for its turn. */
  readonly timeoutMs: number;
  /** Queries that run at once. */
  readonly concurrency: number;
  /** Absent: all events count, however old. */
  readonly retentionDays?: number | undefined;
  /** Unix seconds with fraction: every event that this instance acknowledged before it can be read from ClickHouse. */
  readonly asOf: () => number;
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
/** ClickHouse notices its time limit between two blocks of rows; no answer this long after it means that it hangs. */
const HANG_GRACE_MS = 1_000;
/** `Retry-After` doubles with each failure in a row up to this. */
const RETRY_AFTER_MAX_S = 30;

export function metricsHandler(deps: MetricsDeps): RouteHandler {
  const gate = new QueryGate({
    concurrency: deps.concurrency,
    queueMax: deps.concurrency * QUEUE_PER_QUERY,
    waitMaxMs: deps.timeoutMs,
  });
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
        const answer = await gate.run(stop.signal, () => ask(deps, question, stop.signal));
        failures.none();
        if (!gone) sendJson(res, 200, answer, { headOnly });
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

async function ask(deps: MetricsDeps, question: MetricsQuestion, stop: AbortSignal): Promise<MetricsAnswer> {
  const { client, database, timeoutMs } = deps;
  const { query, parameters, settings } = buildMetricsStatement(database, question, { timeoutMs });
  const asOf = deps.asOf();
  const overdue = AbortSignal.timeout(timeoutMs + HANG_GRACE_MS);
  try {
    const result = await client.query({
      query,
      query_params: parameters,
      clickhouse_settings: settings,
      format: 'JSONCompactEachRow',
      abort_signal: AbortSignal.any([stop, overdue]),
    });
    return readMetricsAnswer(question, await result.json<MetricsRow>(), asOf);
  } catch (error) {
    if (overdue.aborted) throw new QueryHangs(`no answer within ${timeoutMs + HANG_GRACE_MS} ms`, { cause: error });
    throw error;
  }
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
