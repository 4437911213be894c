import { setTimeout as sleep } from 'node:timers/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { classifyQueryFailure, QueryHangs } from '../shared/clickhouse/query-failure.js';
import { RequestError } from '../shared/errors.js';
import { metricsAnswer, pageOfRows } from '../shared/metrics/answer.js';
import {
  type ExceptionRow,
  Exceptions,
  exceptionsQuery,
  fingerprintExpression,
  type RebuiltDay,
} from '../shared/metrics/exceptions.js';
import { groupMembers, type MetricsQuestion } from '../shared/metrics/parameters.js';
import { buildRawStatement } from '../shared/metrics/raw-statement.js';
import {
  buildRollupStatement,
  buildVerdictStatement,
  cellsOf,
  planQuestion,
  type RollupReading,
} from '../shared/metrics/rollup-statement.js';
import {
  type MetricsLimits,
  type MetricsRow,
  type MetricsStatement,
  settingsFor,
} from '../shared/metrics/statement.js';
import type { CellsAnswer, CellsMiss } from '../shared/cells.js';
import { ExceptionsWatch } from './exceptions-watch.js';
import type { AnswerTally, RawReason } from './answer-tally.js';

/**
 * Answers a question from rollups where they may be believed, else from raw rows.
 *
 * Invariant: `as_of` is read before the statement that answers is sent, and belongs to what that statement reads. Whoever has seen it
 * pass a moment finds what was acknowledged until then in every later answer, wherever that comes from. An answer from
 * rollups went by the exceptions that there were when its cells had been read (exceptions.ts): their fingerprint came back with
 * the rows. Where it is another one, the question is put again.
 */

export interface MetricsSources {
  readonly client: ClickHouseClient;
  readonly database: string;
  /** How long one question may run in ClickHouse. */
  readonly timeoutMs: number;
  /** Whether the rollups have caught up with what was shipped. */
  readonly rollups: () => 'ready' | 'behind';
  /** Unix seconds with fraction: every event that this instance acknowledged before it is among the raw rows. */
  readonly asOfShipped: () => number;
  /** The same of the rollups. */
  readonly asOfRolled: () => number;
  /** Cells of the rollups in memory; absent: all of them are asked of ClickHouse. */
  readonly cells?: CellsSource | undefined;
  readonly tally: AnswerTally;
}

/** Of `Cells`, what is needed here. */
interface CellsSource {
  ask(question: MetricsQuestion, asOf: number, timeoutMs: number): Promise<CellsAnswer | CellsMiss>;
  /** An answer's bytes are not read any more. */
  takeBack(body: CellsAnswer['body']): void;
}

export interface MetricsAnswer {
  /** JSON text, in UTF-8. */
  readonly body: Uint8Array;
  /** To be called when `body` is not read any more. */
  readonly done: () => void;
}

/** ClickHouse notices its time limit between two blocks of rows; no answer this long after it means that it hangs. */
const HANG_GRACE_MS = 1_000;
/** How long rollups that have just become ready may take to reach what was answered from raw rows until then, and how often that is looked at. */
const OVERTAKE_MS = 3_000;
const OVERTAKE_LOOK_MS = 20;
/** How often a question is put to the rollups while exceptions come and go. */
const ATTEMPTS_MAX = 3;
/** Names of rebuilt days go along with a statement; a field of a request may have 128 KiB. */
const REBUILT_MAX_BYTES = 100_000;
const REBUILT_DAY_BYTES = 32;

/** One question on its way: what it may still take, and what ends it. */
interface Ask {
  readonly question: MetricsQuestion;
  readonly signal: AbortSignal;
  /** What is left of its time, for the statement that is sent now. */
  readonly limits: () => MetricsLimits;
}

export class MetricsRunner {
  readonly #sources: MetricsSources;
  readonly #watch: ExceptionsWatch;
  #exceptions: Exceptions | undefined;
  /** The latest `as_of` that was given while the rollups were behind. */
  #answeredThrough = -Infinity;

  constructor(sources: MetricsSources) {
    this.#sources = sources;
    const { database, timeoutMs } = sources;
    this.#watch = new ExceptionsWatch(async (signal) => {
      const settings = exceptionSettings({ timeoutMs });
      const statement = { query: `SELECT ${fingerprintExpression(database)}`, parameters: {}, settings };
      return (await this.#select<[string]>(statement, signal))[0]?.[0];
    });
  }

  async ask(question: MetricsQuestion, stop: AbortSignal): Promise<MetricsAnswer> {
    const { timeoutMs } = this.#sources;
    const overdue = AbortSignal.timeout(timeoutMs + HANG_GRACE_MS);
    const end = performance.now() + timeoutMs;
    // ClickHouse takes a limit of 0 for none.
    const limits = (): MetricsLimits => ({ timeoutMs: Math.max(1, Math.round(end - performance.now())) });
    try {
      return await this.#answer({ question, limits, signal: AbortSignal.any([stop, overdue]) });
    } catch (error) {
      if (overdue.aborted) throw new QueryHangs(`no answer within ${timeoutMs + HANG_GRACE_MS} ms`, { cause: error });
      throw error;
    }
  }

  async #answer(ask: Ask): Promise<MetricsAnswer> {
    const { reads, ends } = planQuestion(ask.question, false);
    if (reads.length + ends.length === 0) return await this.#fromRaw(ask, 'empty');
    if (this.#sources.rollups() === 'behind' || !(await this.#overtake())) return await this.#fromRaw(ask, 'behind');
    let known = this.#exceptions;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      let exceptions = known ?? (await this.#loadExceptions(ask));
      let reading = readingOf(ask.question, exceptions);
      if (typeof reading === 'string' && exceptions === known) {
        // Nothing but asking tells that a day is not open any more.
        exceptions = await this.#loadExceptions(ask);
        reading = readingOf(ask.question, exceptions);
      }
      if (typeof reading === 'string') return await this.#fromRaw(ask, reading);
      const answer =
        (await this.#fromCells(ask, reading, exceptions)) ?? (await this.#fromRollups(ask, reading, exceptions));
      if (answer === 'names') return await this.#fromRaw(ask, answer);
      if (answer !== 'changed') return answer;
      this.#sources.tally.putAgain();
      known = undefined;
    }
    return await this.#fromRaw(ask, 'changing');
  }

  async #fromRaw(ask: Ask, reason: RawReason): Promise<MetricsAnswer> {
    const { database, tally } = this.#sources;
    const asOf = this.#asOfRaw(reason);
    const rows = await this.#select(buildRawStatement(database, ask.question, ask.limits()), ask.signal);
    tally.answeredFromRaw(reason);
    return answerOf(ask.question, rows, asOf);
  }

  /** Other questions may be answered from rollups at the same time: an `as_of` that those have not reached would be news to them. */
  #asOfRaw(reason: RawReason): number {
    const { asOfShipped, asOfRolled } = this.#sources;
    if (reason !== 'behind') return Math.min(asOfShipped(), asOfRolled());
    const asOf = asOfShipped();
    this.#answeredThrough = Math.max(this.#answeredThrough, asOf);
    return asOf;
  }

  /** Whether the rollups have all that was answered from raw rows before they were ready. */
  async #overtake(): Promise<boolean> {
    const deadline = performance.now() + OVERTAKE_MS;
    while (this.#sources.asOfRolled() < this.#answeredThrough) {
      if (performance.now() >= deadline) return false;
      await sleep(OVERTAKE_LOOK_MS);
    }
    return true;
  }

  /** Undefined where the cells in memory do not answer. They are of the first generation, and know nothing of names beyond the bound. */
  async #fromCells(
    ask: Ask,
    { rebuilt, checkName }: RollupReading,
    exceptions: Exceptions,
  ): Promise<MetricsAnswer | 'changed' | undefined> {
    const { cells, asOfRolled, tally } = this.#sources;
    if (cells === undefined || rebuilt.length > 0 || checkName) return undefined;
    const asked = cells.ask(ask.question, asOfRolled(), ask.limits().timeoutMs);
    const answer = await untilAborted(asked, ask.signal);
    if (typeof answer === 'string') {
      tally.missedInCells(answer);
      return undefined;
    }
    if (!(await this.#watch.isCurrent(exceptions.fingerprint, answer.excepted, ask.signal))) return 'changed';
    tally.answeredFromCells();
    return { body: answer.body, done: () => cells.takeBack(answer.body) };
  }

  async #fromRollups(
    ask: Ask,
    reading: RollupReading,
    exceptions: Exceptions,
  ): Promise<MetricsAnswer | 'changed' | 'names'> {
    const { question, signal } = ask;
    const { database, asOfRolled, tally } = this.#sources;
    const asOf = asOfRolled();
    const rows = await this.#select(buildRollupStatement(database, question, reading, ask.limits()), signal).catch(
      refuseTooCostly,
    );
    const verdict =
      rows[0]?.slice(groupMembers(question.groupBy).length + 2) ??
      (await this.#select(buildVerdictStatement(database, question, reading, ask.limits()), signal))[0];
    const [fingerprint, isRolled] = verdict ?? [];
    if (fingerprint !== exceptions.fingerprint) return 'changed';
    if (isRolled !== 1) return 'names';
    tally.answeredFromRollups();
    return answerOf(question, rows, asOf);
  }

  async #loadExceptions({ limits, signal }: Ask): Promise<Exceptions> {
    const { database } = this.#sources;
    const settings = exceptionSettings(limits());
    const query = exceptionsQuery(database);
    const rows = await this.#select<ExceptionRow>({ query, parameters: {}, settings }, signal);
    this.#exceptions = new Exceptions(rows);
    return this.#exceptions;
  }

  async #select<Row = MetricsRow>(statement: MetricsStatement, signal: AbortSignal): Promise<Row[]> {
    const result = await this.#sources.client.query({
      query: statement.query,
      query_params: { ...statement.parameters },
      clickhouse_settings: statement.settings,
      format: 'JSONCompactEachRow',
      abort_signal: signal,
      use_multipart_params_auto: true,
    });
    return await result.json<Row>();
  }
}

function answerOf(question: MetricsQuestion, rows: readonly MetricsRow[], asOf: number): MetricsAnswer {
  return { body: metricsAnswer(question, pageOfRows(question, rows), asOf), done: () => undefined };
}

/** How the rollups answer, or why they do not. */
function readingOf(question: MetricsQuestion, exceptions: Exceptions): RollupReading | RawReason {
  if (exceptions.namesMissing && question.eventName === undefined) return 'names';
  let plan = planQuestion(question, true);
  const rebuilt = exceptions.regarding(cellsOf(question, plan));
  if (rebuilt?.length !== 0) plan = planQuestion(question, false);
  if (rebuilt === undefined || bytesOf(rebuilt) > REBUILT_MAX_BYTES) return 'exception';
  return { plan, rebuilt, checkName: exceptions.namesMissing };
}

/** Those of a question, without the size of its page: 0 is no limit. */
function exceptionSettings(limits: MetricsLimits): MetricsStatement['settings'] {
  return { ...settingsFor({ limit: 0 }, limits), max_result_rows: '0' };
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function bytesOf(days: readonly RebuiltDay[]): number {
  return days.reduce((sum, { eventName }) => sum + Buffer.byteLength(eventName) + REBUILT_DAY_BYTES, 0);
}

/** Rollups are the cheapest way there is: what is too much for them stays too much. Over raw rows it may only be too early. */
function refuseTooCostly(error: unknown): never {
  if (classifyQueryFailure(error) !== 'memory') throw error;
  throw tooCostly('takes more memory than one may', error);
}

export function tooCostly(what: string, cause: unknown): RequestError {
  const advice = 'narrow from and to, name an event or a channel, or group by less';
  return new RequestError('query_too_costly', `the answer ${what}: ${advice}`, { cause });
}
