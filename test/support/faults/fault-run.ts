import { setTimeout as sleep } from 'node:timers/promises';
import { runAudit } from '../audit.js';
import { startTestClickHouse, type TestClickHouse } from '../clickhouse.js';
import { EventSource, type SourceOptions } from '../event-source.js';
import { ledgerFaults } from '../ledger-check.js';
import { randomFrom } from '../metrics-model.js';
import { Producer, type ProducerOptions, type Range } from '../producer.js';
import { removeDirectory, Service, type ServiceOptions, temporaryDirectory } from '../service.js';
import { Tally } from '../tally.js';
import { isExact, verify } from '../verify.js';

/**
 * A fault, and one run of it: so many rounds under a load of so many events each, in one data directory. At the end new events
 * must still flow, every total and every stored identity be as the independent count says, and the ledger add up.
 */

export interface Extent {
  readonly rounds: number;
  /** Events sent in each round. */
  readonly events: number;
  /** Asks GET /metrics for the widest totals only, each time. */
  readonly brief?: boolean;
}

export interface Fault {
  readonly name: string;
  /** What `npm test` runs, and what `npm run test:fault` does. */
  readonly short: Extent;
  readonly long: Extent;
  /** Why it cannot run here; undefined where it can. */
  readonly missing?: () => string | undefined;
  readonly run: (run: FaultRun) => Promise<void>;
}

export interface Outcome {
  readonly fault: string;
  readonly seed: number;
  rounds: number;
  kills: number;
  /** Events, copies included. */
  acknowledged: number;
  lost: number;
  twice: number;
  /** What is wrong otherwise; empty where nothing is. */
  readonly wrong: string[];
  /** Figures that the fault has measured. */
  readonly figures: Record<string, number | string>;
  seconds: number;
}

/** Ungrouped, and every grouping once. */
const BRIEF_QUESTIONS = 11;
/** Sent at the end of each run, behind the last fault. */
const AFTERWARDS = 500;
/** Of each round's events, one in so many goes through POST /events. */
const SINGLES = 5;

/** What a fault has sent beside the producer's events. */
export interface Besides {
  /** Rows that went to the dead-letter store. */
  readonly dead?: number;
  /** An event name of which nothing is known here. */
  readonly ignoring?: string;
}

/** A ClickHouse of the test's own. */
export type Target = TestClickHouse & { readonly database: string };

export class FaultRun {
  readonly rounds: number;
  readonly events: number;
  readonly #questionsMax: number;
  readonly outcome: Outcome;
  readonly random: () => number;
  readonly tally: Tally;
  readonly producer: Producer;
  #next = 0;
  readonly #cleanups: (() => Promise<void> | void)[] = [];

  constructor(
    fault: string,
    { rounds, events, brief = false }: Extent,
    seed: number,
    source: Partial<SourceOptions> = {},
  ) {
    this.rounds = rounds;
    this.events = events;
    this.#questionsMax = brief ? BRIEF_QUESTIONS : Infinity;
    this.random = randomFrom(seed);
    this.outcome = {
      fault,
      seed,
      rounds,
      kills: 0,
      acknowledged: 0,
      lost: 0,
      twice: 0,
      wrong: [],
      figures: {},
      seconds: 0,
    };
    this.tally = new Tally(new EventSource({ seed, count: rounds * events + AFTERWARDS, users: 10_000, ...source }));
    this.producer = this.newProducer(this.tally);
  }

  newProducer(tally: Tally, options: ProducerOptions = {}): Producer {
    return new Producer(tally, {
      duplicates: 0.03,
      singleConnections: 32,
      bulkConnections: 3,
      bulkMax: 400,
      ...options,
    });
  }

  /** To be done when the run ends, however it does, last first. */
  cleanUp(step: () => Promise<void> | void): void {
    this.#cleanups.push(step);
  }

  directory(): string {
    const directory = temporaryDirectory();
    this.cleanUp(() => removeDirectory(directory));
    return directory;
  }

  async start(options: ServiceOptions): Promise<Service> {
    const service = await Service.start(options);
    this.cleanUp(() => service.dispose());
    return service;
  }

  /** A ClickHouse of its own, which outlives the service. */
  async clickhouse(): Promise<Target> {
    const server = await startTestClickHouse();
    this.cleanUp(async () => {
      // A stopped process cannot end.
      process.kill(server.pid, 'SIGCONT');
      await server.stop();
    });
    return { ...server, database: server.unusedDatabase() };
  }

  /** The events of the next round: a share of them one by one, the rest in bulk. */
  work(events = this.events): { readonly singles: Range; readonly bulk: Range } {
    const from = this.#next;
    this.#next += events;
    const middle = from + Math.floor(events / SINGLES);
    return { singles: [from, middle], bulk: [middle, this.#next] };
  }

  /** Sends a round's events; `strike` is called when a random part of them was acknowledged. Resolves when all are. */
  async underLoad(strike: () => Promise<void>, producer = this.producer): Promise<void> {
    const due = producer.tally.acknowledgements + Math.floor(this.events * (0.1 + 0.5 * this.random()));
    const sent = producer.run(this.work());
    const struck = Promise.race([producer.acknowledged(due), sent]).then(async () => {
      await this.aMoment();
      return strike();
    });
    await Promise.all([sent, struck]);
  }

  /** A random moment of a few milliseconds, so that no fault comes at the same point of a group twice. */
  async aMoment(): Promise<void> {
    await sleep(this.random() * 25);
  }

  expect(holds: boolean, what: string): void {
    if (!holds) this.outcome.wrong.push(what);
  }

  /** New events flow, everything counts once, the ledger adds up. */
  async conclude(service: Service, target?: Target, besides: Besides = {}): Promise<void> {
    this.producer.url = service.url;
    await this.producer.run(this.work(AFTERWARDS));
    await this.compare(service, this.tally, target, besides);
    const answers = [...this.producer.answers].filter(([status]) => ![202, 400, 503].includes(status));
    this.expect(answers.length === 0, `answers of another kind than 202, 400 and 503: ${JSON.stringify(answers)}`);
  }

  /** Adds to the outcome what differs from an independent count. */
  async compare(service: Service, tally: Tally, target?: Target, { dead, ignoring }: Besides = {}): Promise<void> {
    await service.settled(240_000);
    const client = target?.client ?? service.clickhouse();
    const database = target?.database ?? 'penstock';
    try {
      const verification = await verify({
        url: service.url,
        clickhouse: client,
        tally,
        database,
        questionsMax: this.#questionsMax,
        ...(ignoring !== undefined && { ignoring }),
      });
      this.outcome.acknowledged += tally.acknowledgements;
      this.outcome.lost += verification.lost;
      this.outcome.twice += verification.twice;
      if (!isExact(verification))
        this.outcome.wrong.push(...verification.report, `${verification.wrong} totals are wrong`);
      this.outcome.wrong.push(...(await ledgerFaults(client, database, dead)));
    } finally {
      if (target === undefined) await client.close();
    }
    await this.#audit(service, target);
  }

  /** `penstock audit`, as an operator would. */
  async #audit({ dataDir, clickhouseUrl }: Service, target: Target | undefined): Promise<void> {
    const env = target === undefined ? { PENSTOCK_CLICKHOUSE_URL: clickhouseUrl } : externally(target);
    const { ok, epochs, unread } = await runAudit(dataDir, { env });
    const faulty = epochs.filter(({ gaps, overlaps }) => gaps.length + overlaps.length > 0);
    this.expect(ok, `penstock audit: ${JSON.stringify({ unread, faulty }).slice(0, 1_000)}`);
  }

  async end(): Promise<void> {
    this.producer.url = undefined;
    for (const step of this.#cleanups.toReversed()) await step();
  }
}

export function externally(
  { url, user, password, database }: TestClickHouse & Target,
  via = url,
): Record<string, string> {
  return {
    PENSTOCK_CLICKHOUSE_URL: via,
    PENSTOCK_CLICKHOUSE_USER: user,
    PENSTOCK_CLICKHOUSE_PASSWORD: password,
    PENSTOCK_CLICKHOUSE_DATABASE: database,
  };
}

export async function runFault(fault: Fault, extent: Extent, seed: number): Promise<Outcome> {
  const from = performance.now();
  const run = new FaultRun(fault.name, extent, seed);
  try {
    await fault.run(run);
  } finally {
    await run.end();
  }
  run.outcome.seconds = Math.round((performance.now() - from) / 100) / 10;
  return run.outcome;
}
