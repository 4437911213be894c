import { setTimeout as sleep } from 'node:timers/promises';
import { askWithinBounds, type BoundedQuestion, NotAnswered, randomQuestion } from '../bounded-questions.js';
import { EventLoad, LOAD_VOCABULARY } from '../event-load.js';
import { answerSources, settledInRollups } from '../rollup-answers.js';
import { rollupFaults } from '../rollup-check.js';
import { SentEvents } from '../sent-events.js';
import { type Service, until } from '../service.js';
import { externally, type Fault, type FaultRun, type Target } from './fault-run.js';

/**
 * Random questions to two instances on one ClickHouse while both take events, roll, and are killed. Each answer is held to what
 * was acknowledged before its as_of and what had begun to be sent when it came; when all is quiet, to the exact counts.
 */

const INSTANCES = 2;
const QUESTIONS_A_ROUND = 75;
const ASKERS_AN_INSTANCE = 2;
/** Between two questions of one asker, at most. */
const PAUSE_MAX_MS = 300;
/** Of the kills, one in so many hits both instances at once. */
const BOTH_EVERY = 4;
const DEADLINE_MS = 300_000;
const POLL_MS = 100;
const LINES_MAX = 20;

/** Answers by what they came from: `rollups`, or why from raw rows. */
type Answers = Map<string, number>;

class Instances {
  /** Of processes that were killed, without what was answered before the load. */
  #answers: Answers = new Map();
  /** Of the processes that were killed, how many had rolled. */
  #rollers = 0;
  readonly #run: FaultRun;
  readonly #env: Readonly<Record<string, string>>;
  readonly #directories: readonly string[];
  readonly #running: (Service | undefined)[] = [];

  constructor(run: FaultRun, clickhouse: Target) {
    this.#run = run;
    this.#env = externally(clickhouse);
    this.#directories = Array.from({ length: INSTANCES }, () => run.directory());
  }

  readonly urlOf = (instance: number): string | undefined => this.#running[instance]?.url;

  async start(instance: number): Promise<void> {
    const dataDir = this.#directories[instance] ?? '';
    this.#running[instance] = await this.#run.start({ dataDir, env: this.#env });
  }

  async killAndStart(instance: number): Promise<void> {
    const service = this.#running[instance];
    if (service !== undefined) this.#rollers += await addAnswers(service, this.#answers);
    this.#running[instance] = undefined;
    await service?.kill();
    this.#run.outcome.kills += 1;
    await this.start(instance);
  }

  /** Of all processes up to now, with how many of them have rolled. */
  async answers(): Promise<{ readonly answers: Answers; readonly rollers: number }> {
    const answers = new Map(this.#answers);
    let rollers = this.#rollers;
    for (const service of this.#running) if (service !== undefined) rollers += await addAnswers(service, answers);
    return { answers, rollers };
  }

  /** From now on, answers are counted from 0. */
  async forgetAnswers(): Promise<void> {
    const running: Answers = new Map();
    for (const service of this.#running) if (service !== undefined) await addAnswers(service, running);
    this.#answers = new Map([...running].map(([source, count]) => [source, -count]));
  }

  /** Resolves when every instance promises what was acknowledged up to now. */
  async settled(): Promise<void> {
    for (const service of this.#running) if (service !== undefined) await settledInRollups(service, DEADLINE_MS);
  }
}

/** Adds what a process has answered; 1 where it has rolled, else 0. */
async function addAnswers(service: Service, answers: Answers): Promise<number> {
  for (const [source, count] of await answerSources(service)) answers.set(source, (answers.get(source) ?? 0) + count);
  const page = await (await fetch(`${service.adminUrl}/metrics`)).text();
  return /^penstock_rollup_commits_total [1-9]/m.test(page) ? 1 : 0;
}

class Questioner {
  asked = 0;
  pages = 0;
  unanswered = 0;
  /** Lines of what is wrong; not all of them are shown. */
  wrong = 0;
  readonly questions: BoundedQuestion[] = [];
  readonly behindMs: number[] = [];
  readonly #run: FaultRun;
  readonly #sent: SentEvents;
  readonly #instances: Instances;
  #isOver = false;

  constructor(run: FaultRun, sent: SentEvents, instances: Instances) {
    this.#run = run;
    this.#sent = sent;
    this.#instances = instances;
  }

  async askAround(): Promise<void> {
    const askers = Array.from({ length: INSTANCES * ASKERS_AN_INSTANCE }, (_, i) => this.#askOne(i % INSTANCES));
    await Promise.all(askers);
  }

  end(): void {
    this.#isOver = true;
  }

  /** Every question again, when nothing changes any more, to one instance or the other. */
  async askAgain(): Promise<void> {
    const left = this.questions.entries();
    const ask = async (): Promise<void> => {
      for (const [at, question] of left) {
        const { wrong } = await askWithinBounds(this.#instances.urlOf(at % INSTANCES) ?? '', question, this.#sent);
        this.#note('when all was quiet', wrong);
      }
    };
    await Promise.all(Array.from({ length: INSTANCES * ASKERS_AN_INSTANCE }, ask));
  }

  #note(when: string, wrong: readonly string[]): void {
    this.wrong += wrong.length;
    for (const line of wrong)
      if (this.#run.outcome.wrong.length < LINES_MAX) this.#run.expect(false, `${when}: ${line}`);
  }

  async #askOne(instance: number): Promise<void> {
    while (!this.#isOver) {
      await sleep(this.#run.random() * PAUSE_MAX_MS);
      const url = this.#instances.urlOf(instance);
      if (url === undefined) continue;
      const question = randomQuestion(this.#sent, this.asked, this.#run.random);
      try {
        const { wrong, behindMs, pages } = await askWithinBounds(url, question, this.#sent, instance);
        this.#note('while events came', wrong);
        this.behindMs.push(behindMs);
        this.pages += pages;
      } catch (error) {
        if (!(error instanceof NotAnswered)) throw error;
        this.unanswered += 1;
        continue;
      }
      this.asked += 1;
      this.questions.push(question);
    }
  }
}

const underKills: Fault = {
  name: 'random questions to two instances that are killed',
  short: { rounds: 2, events: 1_500 },
  long: { rounds: 16, events: 1_500 },
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const instances = new Instances(run, clickhouse);
    const sent = new SentEvents(LOAD_VOCABULARY, INSTANCES);
    const load = new EventLoad(sent, INSTANCES, instances.urlOf, run.random);
    const questioner = new Questioner(run, sent, instances);
    await Promise.all(Array.from({ length: INSTANCES }, (_, i) => instances.start(i)));
    await instances.settled();
    await instances.forgetAnswers();
    const underWay = Promise.all([load.run(), questioner.askAround()]);
    const failed = new AbortController();
    underWay.catch((error: unknown) => failed.abort(error));
    try {
      await killInTurn({ run, instances, load, questioner }, failed.signal);
    } finally {
      load.end();
      questioner.end();
    }
    await underWay;
    await concludeLoad({ run, instances, load, questioner });
    await instances.settled();
    await untilRebuilt(clickhouse);
    await concludeQuiet({ run, instances, load, questioner }, clickhouse, sent);
  },
};

interface Parts {
  readonly run: FaultRun;
  readonly instances: Instances;
  readonly load: EventLoad;
  readonly questioner: Questioner;
}

async function killInTurn(parts: Parts, failed: AbortSignal): Promise<void> {
  const { run, instances } = parts;
  for (let round = 0; round < run.rounds; round += 1) {
    await through(parts, round + 0.2 + 0.6 * run.random(), failed);
    const victim = Math.floor(run.random() * INSTANCES);
    const victims = (round + 1) % BOTH_EVERY === 0 ? [...Array(INSTANCES).keys()] : [victim];
    await Promise.all(victims.map((instance) => instances.killAndStart(instance)));
    await through(parts, round + 1, failed);
  }
}

/** Resolves when so many rounds' worth is acknowledged, and is answered from rollups: others do not count. */
async function through({ run, instances, load }: Parts, rounds: number, failed: AbortSignal): Promise<void> {
  const from = performance.now();
  for (;;) {
    failed.throwIfAborted();
    const { answers } = await instances.answers();
    const isAsked = (answers.get('rollups') ?? 0) >= rounds * QUESTIONS_A_ROUND;
    if (isAsked && load.acknowledgements >= rounds * run.events) return;
    if (performance.now() - from > DEADLINE_MS) throw new Error('hardly any answer comes from rollups');
    await sleep(POLL_MS);
  }
}

/** Until then questions about some days are answered from raw rows, and their cells are not what counts. */
async function untilRebuilt({ client, database }: Target): Promise<void> {
  await until(
    async () => {
      const result = await client.query({
        query: `SELECT 1 FROM ${database}.rollup_exceptions GROUP BY event_name, day, request HAVING max(done) = 0 LIMIT 1`,
        format: 'JSONCompactEachRow',
      });
      return (await result.json()).length === 0;
    },
    'every day that changed is rebuilt',
    DEADLINE_MS,
  );
}

async function concludeLoad({ run, instances, load, questioner }: Parts): Promise<void> {
  const { outcome } = run;
  outcome.wrong.push(...load.problems);
  outcome.acknowledged = load.acknowledgements;
  const { answers, rollers } = await instances.answers();
  run.expect(load.repeated > 0 && load.changed > 0, 'no event was sent again, or none as another version');
  const behind = questioner.behindMs.toSorted((a, b) => a - b);
  Object.assign(outcome.figures, {
    questions: questioner.asked,
    pages: questioner.pages,
    questionsUnanswered: questioner.unanswered,
    repeated: load.repeated,
    changed: load.changed,
    requestsUnanswered: load.unanswered,
    requestsRefused: load.refused,
    rollers,
    asOfBehindMs: `${behind[Math.floor(behind.length / 2)]} (median), ${behind.at(-1)}`,
    ...Object.fromEntries([...answers].filter(([, count]) => count > 0)),
  });
}

/** Nothing changes any more: cells, totals and every answer are exact, and nothing but the shortest ranges needs raw rows. */
async function concludeQuiet(
  { run, instances, questioner }: Parts,
  { client, database }: Target,
  sent: SentEvents,
): Promise<void> {
  const { outcome } = run;
  for (const line of await rollupFaults(client, database)) outcome.wrong.push(`rollup: ${line}`);
  const result = await client.query({
    query: `SELECT count() FROM ${database}.events FINAL`,
    format: 'JSONCompactEachRow',
  });
  const [[stored] = []] = await result.json<[string]>();
  outcome.lost = Math.max(0, sent.count - Number(stored));
  outcome.twice = Math.max(0, Number(stored) - sent.count);
  await instances.forgetAnswers();
  await questioner.askAgain();
  const { answers } = await instances.answers();
  for (const [source, count] of answers) {
    if (source === 'rollups' || source === 'short') continue;
    run.expect(count === 0, `${count} answers came from raw rows when all was quiet: ${source}`);
  }
  Object.assign(outcome.figures, { identities: sent.count, linesWrong: questioner.wrong });
}

export const METRICS_FAULTS: readonly Fault[] = [underKills];
