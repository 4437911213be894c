import { Counter as PromCounter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Counter, Counters } from '../shared/counters.js';
import type { AnswerTally } from './answer-tally.js';
import { LATENCY_BOUNDS_S, type LatencyHistogram } from './latency.js';

/**
 * Prometheus' text format, made when it is scraped: the numbers are counted in shared memory and plain arrays, prom-client
 * only writes them down.
 */

export interface PrometheusSources {
  readonly counters: Counters;
  readonly latency: LatencyHistogram;
  readonly refusals: ReadonlyMap<string, number>;
  readonly answers: AnswerTally;
  readonly version: string;
  /** What stands for the moment: read at each scrape. */
  readonly now: () => {
    readonly openRequests: number;
    readonly bodyBytes: number;
    readonly walBytes: number;
    readonly pendingSegments: number;
    readonly oldestUnshippedSeconds: number;
    readonly ready: boolean;
    readonly clickhouseUp: boolean;
    readonly encoders: number;
    readonly deadLetterBytes: number;
    readonly cellBytes: number;
    readonly oldestUnrolledSeconds: number;
  };
}

interface Series {
  readonly name: string;
  readonly help: string;
  readonly counter: Counter;
}

const COUNTED: readonly Series[] = [
  {
    name: 'penstock_events_accepted_total',
    help: 'Events acknowledged with a 2xx, durable in the log.',
    counter: 'acceptedEvents',
  },
  {
    name: 'penstock_events_refused_total',
    help: 'Events that were read and refused (4xx), one by one in bulk bodies.',
    counter: 'refusedEvents',
  },
  {
    name: 'penstock_events_stored_total',
    help: 'Rows that ClickHouse has confirmed, repetitions included.',
    counter: 'shippedRows',
  },
  {
    name: 'penstock_segments_stored_total',
    help: 'Segments that ClickHouse has confirmed.',
    counter: 'shippedSegments',
  },
  {
    name: 'penstock_ship_failures_total',
    help: 'INSERTs that were not confirmed and are sent again.',
    counter: 'shipFailures',
  },
  { name: 'penstock_wal_rows_synced_total', help: 'Rows made durable in the log.', counter: 'walRowsSynced' },
  {
    name: 'penstock_wal_rows_refused_total',
    help: 'Rows that the disk refused; their requests got 503.',
    counter: 'walRowsRefused',
  },
  { name: 'penstock_wal_commits_total', help: 'Groups committed to the log, one sync each.', counter: 'walCommits' },
  {
    name: 'penstock_wal_commit_seconds_total',
    help: 'Time spent in writing and syncing groups.',
    counter: 'walCommitSeconds',
  },
  { name: 'penstock_wal_failures_total', help: 'Groups that could not be written or synced.', counter: 'walFailures' },
  {
    name: 'penstock_wal_torn_bytes_total',
    help: 'Bytes cut from torn tails at recovery; never acknowledged.',
    counter: 'walTornBytes',
  },
  {
    name: 'penstock_wal_damaged_bytes_total',
    help: 'Bytes of damaged log that were set aside.',
    counter: 'walDamagedBytes',
  },
  {
    name: 'penstock_dead_letters_total',
    help: 'Events that ClickHouse refused, set aside in the dead-letter store.',
    counter: 'deadLetters',
  },
  {
    name: 'penstock_rollup_rows_total',
    help: 'Events that this instance added to the rollup, each once.',
    counter: 'rolledRows',
  },
  { name: 'penstock_rollup_commits_total', help: 'Commits to the rollup.', counter: 'rollCommits' },
  {
    name: 'penstock_rollup_failures_total',
    help: 'Steps of the roller that failed and were done again.',
    counter: 'rollFailures',
  },
  {
    name: 'penstock_rollup_loaded_seconds_total',
    help: 'Seconds of an event name that were read again, because an event may have been counted in them before.',
    counter: 'rollLoadedSeconds',
  },
  {
    name: 'penstock_encoder_deaths_total',
    help: 'Encoder threads that died and were replaced.',
    counter: 'encoderDeaths',
  },
];

/** What stands for the moment in the roller, which writes it down itself. */
const ROLLER_GAUGES: readonly Series[] = [
  {
    name: 'penstock_rollup_pending_segments',
    help: 'Segments in ClickHouse that are not in the rollup, as far as this instance knows.',
    counter: 'rollPendingSegments',
  },
  {
    name: 'penstock_rollup_backfill_rows',
    help: 'Rows left to roll of what was in ClickHouse before the rollup.',
    counter: 'rollBackfillRows',
  },
  {
    name: 'penstock_rollup_event_names',
    help: 'Event names in the rollup; beyond 10 000 they are answered from raw rows.',
    counter: 'rollEventNames',
  },
  {
    name: 'penstock_rollup_users',
    help: 'Numbers that were given to users; one in each step goes to nobody.',
    counter: 'rollUsers',
  },
  {
    name: 'penstock_rollup_open_days',
    help: 'Days of an event name that are answered from raw rows until they are rebuilt.',
    counter: 'rollOpenDays',
  },
  {
    name: 'penstock_rollup_memory_bytes',
    help: 'Bytes of the identities and users that the roller remembers, and of which users cells have got.',
    counter: 'rollMemoryBytes',
  },
];

export class PrometheusPage {
  readonly #sources: PrometheusSources;
  readonly #registry = new Registry();
  readonly #counted: readonly { series: Series; metric: PromCounter }[];
  readonly #refusals: PromCounter<'code'>;
  readonly #answers: PromCounter<'source' | 'reason'>;
  readonly #misses: PromCounter<'reason'>;
  readonly #repeated: PromCounter;
  readonly #gauges: ReadonlyMap<string, Gauge>;
  readonly #info: Gauge<'version'>;

  constructor(sources: PrometheusSources) {
    this.#sources = sources;
    const registers = [this.#registry];
    this.#counted = COUNTED.map((series) => ({
      series,
      metric: new PromCounter({ name: series.name, help: series.help, registers }),
    }));
    this.#refusals = new PromCounter({
      name: 'penstock_requests_refused_total',
      help: 'Event requests answered with an error, by its code.',
      labelNames: ['code'],
      registers,
    });
    this.#answers = new PromCounter({
      name: 'penstock_metrics_answers_total',
      help: 'Metrics questions answered, by what from (cells of the rollups in memory, the rollups in ClickHouse, raw rows), and why from raw rows.',
      labelNames: ['source', 'reason'],
      registers,
    });
    this.#misses = new PromCounter({
      name: 'penstock_metrics_cells_misses_total',
      help: 'Questions that cells in memory could not answer, by why; ClickHouse did.',
      labelNames: ['reason'],
      registers,
    });
    this.#repeated = new PromCounter({
      name: 'penstock_metrics_repeats_total',
      help: 'Times that a metrics question was put to the rollups again because days had been excepted from them meanwhile.',
      registers,
    });
    const gauge = (name: string, help: string): [string, Gauge] => [name, new Gauge({ name, help, registers })];
    this.#gauges = new Map([
      gauge('penstock_requests_open', 'Event requests without an answer.'),
      gauge('penstock_body_bytes', 'Bytes of the bodies of open event requests.'),
      gauge('penstock_wal_bytes', 'Bytes of log that ClickHouse has not confirmed.'),
      gauge('penstock_wal_segments', 'Segments that ClickHouse has not confirmed, the active one included.'),
      gauge(
        'penstock_wal_oldest_unshipped_seconds',
        'Age of the oldest event that ClickHouse has not confirmed; 0 where there is none.',
      ),
      gauge('penstock_ready', '1 while /ready answers 200.'),
      gauge('penstock_clickhouse_up', '1 while ClickHouse takes segments and answers.'),
      gauge('penstock_dead_letter_bytes', 'Bytes in the dead-letter store.'),
      gauge(
        'penstock_metrics_cells_bytes',
        'Bytes of the cells of the rollups that are kept in memory for metrics questions.',
      ),
      gauge('penstock_encoders', 'Encoder threads that run.'),
      gauge(
        'penstock_rollup_oldest_unrolled_seconds',
        'Age of the oldest event of this instance that is not in the rollup; 0 where there is none.',
      ),
      ...ROLLER_GAUGES.map(({ name, help }) => gauge(name, help)),
    ]);
    this.#info = new Gauge({ name: 'penstock_build_info', help: 'Always 1.', labelNames: ['version'], registers });
    collectDefaultMetrics({ register: this.#registry });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The page; what prom-client does not offer, a histogram that was counted elsewhere, is written behind it. */
  async render(): Promise<string> {
    const { counters, refusals, answers, version, now } = this.#sources;
    for (const { series, metric } of this.#counted) {
      metric.reset();
      metric.inc(counters.get(series.counter));
    }
    this.#refusals.reset();
    for (const [code, count] of refusals) this.#refusals.inc({ code }, count);
    this.#answers.reset();
    this.#answers.inc({ source: 'cells', reason: '' }, answers.fromCells);
    this.#answers.inc({ source: 'rollups', reason: '' }, answers.fromRollups);
    for (const [reason, count] of answers.fromRaw) this.#answers.inc({ source: 'raw', reason }, count);
    this.#misses.reset();
    for (const [reason, count] of answers.misses) this.#misses.inc({ reason }, count);
    this.#repeated.reset();
    this.#repeated.inc(answers.repeated);
    const state = now();
    this.#set('penstock_requests_open', state.openRequests);
    this.#set('penstock_body_bytes', state.bodyBytes);
    this.#set('penstock_wal_bytes', state.walBytes);
    this.#set('penstock_wal_segments', state.pendingSegments);
    this.#set('penstock_wal_oldest_unshipped_seconds', state.oldestUnshippedSeconds);
    this.#set('penstock_ready', state.ready ? 1 : 0);
    this.#set('penstock_clickhouse_up', state.clickhouseUp ? 1 : 0);
    this.#set('penstock_encoders', state.encoders);
    this.#set('penstock_dead_letter_bytes', state.deadLetterBytes);
    this.#set('penstock_metrics_cells_bytes', state.cellBytes);
    this.#set('penstock_rollup_oldest_unrolled_seconds', state.oldestUnrolledSeconds);
    for (const { name, counter } of ROLLER_GAUGES) this.#set(name, counters.get(counter));
    this.#info.set({ version }, 1);
    // prom-client writes `Nan`, which the format does not know.
    const text = (await this.#registry.metrics()).replaceAll(/ Nan$/gm, ' NaN');
    return `${text}\n${histogramText(this.#sources.latency)}`;
  }

  #set(name: string, value: number): void {
    this.#gauges.get(name)?.set(value);
  }
}

function histogramText({ counts, sumS }: LatencyHistogram): string {
  const name = 'penstock_acknowledge_seconds';
  const lines = [`# HELP ${name} From the head of an accepted request to its 202.`, `# TYPE ${name} histogram`];
  let count = 0;
  for (const [i, bound] of [...LATENCY_BOUNDS_S, '+Inf'].entries()) {
    count += counts[i] ?? 0;
    lines.push(`${name}_bucket{le="${bound}"} ${count}`);
  }
  lines.push(`${name}_sum ${sumS}`, `${name}_count ${count}`, '');
  return lines.join('\n');
}
