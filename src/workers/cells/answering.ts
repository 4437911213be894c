import type { ClickHouseClient } from '@clickhouse/client';
import type { CellsMiss } from '../../shared/cells.js';
import type { MetricsPage } from '../../shared/metrics/answer.js';
import type { MetricsQuestion } from '../../shared/metrics/parameters.js';
import { loadBounds, loadCells, type LoadLimits, type Wanted } from './load.js';
import type { CellMirror, Loaded } from './mirror.js';
import { type Need, needsOf } from './needs.js';
import { Sum } from './sum.js';

/**
 * Answers questions out of the mirror, and loads what they need into it. Nothing comes between the look at what is there and
 * the sum: both are one turn, so that a commit is in all of an answer or in none of it.
 */

export interface AnsweringOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly mirror: CellMirror;
  readonly bytesMax: number;
  /** Takes the roller's messages that have come meanwhile. */
  readonly catchUp: () => void;
  /** Cells could not be loaded; the question is put to ClickHouse. */
  readonly onFailure: (error: unknown) => void;
  readonly signal: AbortSignal;
}

/** Units of one question: more are not worth the memory that it takes to know that most are empty. */
const UNITS_MAX = 20_000;
/** So many that are missing are loaded while the question waits; for more it is answered by ClickHouse, and they come after it. */
const WAITED_FOR_MAX = 200;
/** A load in nobody's name may take this long. */
const LOAD_TIMEOUT_MS = 30_000;
/** Of the memory for cells, what one load may bring. */
const LOAD_SHARE = 0.5;
/** Cells come and go under a question; each time, what it needs is looked at anew. */
const ATTEMPTS_MAX = 4;

export interface AnsweredPage {
  readonly page: MetricsPage;
  readonly excepted: number;
}

interface Missing {
  readonly wanted: readonly Wanted[];
  readonly count: number;
}

export class Answering {
  readonly #options: AnsweringOptions;
  /** Loads come one after the other. */
  #loading: Promise<void> = Promise.resolve();
  #inBackground = false;

  constructor(options: AnsweringOptions) {
    this.#options = options;
  }

  /** What the answer says, or why there is none. */
  async ask(question: MetricsQuestion, timeoutMs: number): Promise<AnsweredPage | CellsMiss> {
    try {
      return await this.#ask(question, timeoutMs);
    } finally {
      // Not before: what a question waits for may be more than is kept.
      this.#options.mirror.shrink();
    }
  }

  async #ask(question: MetricsQuestion, timeoutMs: number): Promise<AnsweredPage | CellsMiss> {
    const { mirror, catchUp } = this.#options;
    const end = performance.now() + timeoutMs;
    mirror.beginQuestion();
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      catchUp();
      if (mirror.commits === undefined) return 'unowned';
      const { bounds } = mirror;
      if (bounds === undefined) {
        if (!(await this.#load([], end))) return 'failed';
        continue;
      }
      const needs = needsOf(question, bounds);
      if (needs.reduce((sum, { first, end: behind }) => sum + behind - first, 0) > UNITS_MAX) return 'large';
      const missing = this.#missing(needs);
      if (missing.count === 0) {
        return { page: this.#sum(question, needs), excepted: mirror.excepted };
      }
      if (missing.count > WAITED_FOR_MAX) {
        this.#loadInBackground(missing.wanted);
        return 'cold';
      }
      if (!(await this.#load(missing.wanted, end))) return 'failed';
    }
    return 'large';
  }

  #missing(needs: readonly Need[]): Missing {
    const { mirror } = this.#options;
    let count = 0;
    const wanted: Wanted[] = [];
    for (const { key, first, end } of needs) {
      const units = mirror.units(key);
      const buckets: number[] = [];
      for (let bucket = first; bucket < end; bucket += 1) if (units?.has(bucket) !== true) buckets.push(bucket);
      count += buckets.length;
      if (buckets.length > 0) wanted.push({ key, buckets });
    }
    return { wanted, count };
  }

  #sum(question: MetricsQuestion, needs: readonly Need[]): MetricsPage {
    const { mirror } = this.#options;
    const now = mirror.beginQuestion();
    const sum = new Sum(question);
    for (const need of needs) {
      const units = mirror.units(need.key);
      for (let bucket = need.first; bucket < need.end; bucket += 1) {
        const unit = units?.get(bucket);
        if (unit === undefined) throw new Error('a cell that was there is gone');
        unit.usedAt = now;
        sum.add(need, bucket, unit);
      }
    }
    const page = sum.page();
    mirror.grew(sum.keptBytes);
    return page;
  }

  #loadInBackground(wanted: readonly Wanted[]): void {
    if (this.#inBackground) return;
    this.#inBackground = true;
    void this.#load(wanted, performance.now() + LOAD_TIMEOUT_MS).finally(() => {
      this.#inBackground = false;
      this.#options.mirror.shrink();
    });
  }

  /** The bounds where nothing is wanted. False where it failed, for what reason ever: ClickHouse is asked next, and says. */
  #load(wanted: readonly Wanted[], end: number): Promise<boolean> {
    const load = this.#loading
      .then(async () => await this.#loadNow(wanted, end))
      .catch((error: unknown) => {
        this.#options.onFailure(error);
        return false;
      });
    this.#loading = load.then(() => undefined);
    return load;
  }

  async #loadNow(wanted: readonly Wanted[], end: number): Promise<boolean> {
    const timeoutMs = Math.round(end - performance.now());
    if (timeoutMs <= 0) return false;
    const { client, database, mirror, bytesMax, signal } = this.#options;
    const limits: LoadLimits = { bytesMax: Math.round(bytesMax * LOAD_SHARE), timeoutMs };
    const until = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    if (wanted.length === 0) return await this.#install(() => loadBounds(client, database, limits, until));
    // Another question may have brought it meanwhile.
    const still = wanted
      .map(({ key, buckets }) => ({
        key,
        buckets: buckets.filter((bucket) => mirror.units(key)?.has(bucket) !== true),
      }))
      .filter(({ buckets }) => buckets.length > 0);
    const users = still.filter(({ key }) => !key.events);
    const events = still.filter(({ key }) => key.events);
    return (
      (users.length === 0 || (await this.#install(() => loadCells(client, database, users, 'users', limits, until)))) &&
      (events.length === 0 ||
        (await this.#install(() => loadCells(client, database, events, 'entries', limits, until))))
    );
  }

  async #install(load: () => Promise<Loaded>): Promise<boolean> {
    const { mirror, catchUp } = this.#options;
    const life = mirror.beginLoad();
    try {
      const loaded = await load();
      catchUp();
      return mirror.install(life, loaded);
    } catch (error) {
      mirror.abandonLoad();
      throw error;
    }
  }
}
