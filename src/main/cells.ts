import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import {
  ANSWER_MEMORY,
  type CellsAnswer,
  type CellsMessage,
  type CellsMiss,
  type CellsReply,
} from '../shared/cells.js';
import type { Logger } from '../shared/log.js';
import type { MetricsQuestion } from '../shared/metrics/parameters.js';
import { CELLS_YOUNG_MIB } from '../shared/limits.js';
import type { CellsWorkerData } from '../workers/cells/cells-worker.js';

/**
 * Handle on the cells thread, which answers metrics questions out of memory. It starts with the first question, so that an instance
 * that is asked nothing does not pay for it; if it ends, ClickHouse answers, and another is started.
 */

export interface CellsOptions {
  readonly clickhouse: CellsWorkerData['clickhouse'];
  readonly bytesMax: number;
  readonly logLevel: CellsWorkerData['logLevel'];
  /** Has the roller tell `port` of its commits. */
  readonly followCommits: (port: MessagePort) => void;
  readonly log: Logger;
}

/** A thread that ends at once each time must not keep a processor busy. */
const RESTART_MS = 10_000;

interface Running {
  readonly worker: Worker;
  readonly port: MessagePort;
}

export class Cells {
  readonly #options: CellsOptions;
  readonly #gauge = new SharedArrayBuffer(8);
  readonly #waiting = new Map<number, (answer: CellsAnswer | CellsMiss) => void>();
  #running: Running | undefined;
  /** Monotonic ms. */
  #restAfter = -Infinity;
  #asked = 0;
  #stopped = false;

  constructor(options: CellsOptions) {
    this.#options = options;
  }

  /** Bytes of cells in memory, by their own estimate. */
  get bytes(): number {
    return new Float64Array(this.#gauge)[0] ?? 0;
  }

  /** The answer, or why there is none. `asOf` was read before. Never rejects. */
  ask(question: MetricsQuestion, asOf: number, timeoutMs: number): Promise<CellsAnswer | CellsMiss> {
    const running = this.#start();
    if (running === undefined) return Promise.resolve('failed');
    this.#asked += 1;
    const id = this.#asked;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#tell(running, { type: 'ask', ask: { id, question, asOf, timeoutMs } });
    });
  }

  /** The bytes of an answer are not read any more. */
  takeBack({ buffer }: CellsAnswer['body']): void {
    if (buffer.byteLength < ANSWER_MEMORY.minBytes || buffer.byteLength > ANSWER_MEMORY.maxBytes) return;
    this.#running?.port.postMessage({ type: 'memory', memory: buffer } satisfies CellsMessage, [buffer]);
  }

  /** A roller has started: its commits are to be followed from now on. */
  rollerStarted(): void {
    if (this.#running !== undefined) this.#follow(this.#running);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const running = this.#running;
    if (running === undefined) return;
    const exited = new Promise((resolve) => running.worker.once('exit', resolve));
    this.#tell(running, { type: 'stop' });
    await exited;
  }

  #start(): Running | undefined {
    if (this.#running !== undefined) return this.#running;
    if (this.#stopped || performance.now() < this.#restAfter) return undefined;
    const { clickhouse, bytesMax, logLevel, log } = this.#options;
    const { port1, port2 } = new MessageChannel();
    const data: CellsWorkerData = { clickhouse, bytesMax, gauge: this.#gauge, logLevel, port: port2 };
    const worker = new Worker(new URL('../workers/cells/cells-worker.js', import.meta.url), {
      workerData: data,
      transferList: [port2],
      name: 'penstock-cells',
      resourceLimits: { maxYoungGenerationSizeMb: CELLS_YOUNG_MIB },
    });
    port1.on('message', (reply: CellsReply) => {
      const settle = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      settle?.('answer' in reply ? reply.answer : reply.miss);
    });
    let cause: unknown;
    worker.on('error', (error) => {
      cause = error;
    });
    worker.on('exit', (code) => {
      const what = 'the thread that answers metrics out of memory has ended; ClickHouse answers';
      if (!this.#stopped) log.error({ err: cause, code }, what);
      this.#ended();
    });
    this.#running = { worker, port: port1 };
    this.#follow(this.#running);
    return this.#running;
  }

  #ended(): void {
    this.#running?.port.close();
    this.#running = undefined;
    this.#restAfter = performance.now() + RESTART_MS;
    new Float64Array(this.#gauge)[0] = 0;
    for (const settle of this.#waiting.values()) settle('failed');
    this.#waiting.clear();
  }

  #follow(running: Running): void {
    const { port1, port2 } = new MessageChannel();
    this.#options.followCommits(port1);
    running.port.postMessage({ type: 'roller', port: port2 } satisfies CellsMessage, [port2]);
  }

  #tell({ port }: Running, message: CellsMessage): void {
    port.postMessage(message);
  }
}
