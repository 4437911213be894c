import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import {
  type ChannelMemory,
  FLOW_SLOT,
  type FlowMemory,
  LOG_STATE,
  type LogMessage,
  type ShipperMessage,
} from '../shared/channel.js';
import type { RollerMessage } from '../shared/cells.js';
import { monotonicMs } from '../shared/clock.js';
import type { Config } from '../shared/config.js';
import { Doorbell, Sleeper } from '../shared/doorbell.js';
import { SEGMENTS_MAX, THREAD_YOUNG_MIB } from '../shared/limits.js';
import type { LogWorkerData } from '../workers/flusher/log-worker.js';
import type { ShipWorkerData } from '../workers/flusher/ship-worker.js';
import type { RollWorkerData } from '../workers/roller/roll-worker.js';
import { deadLetterDirectory } from '../workers/flusher/dead-letter.js';
import { walDirectory } from '../workers/flusher/wal/file-system.js';

/** Handle on the flusher's two threads and the roller's, and the one place where main is woken from. */

export interface FlusherEvents {
  /** Something may be due: rows are durable, answers have come, a channel is closed, the log's state has changed. */
  wake(): void;
  /** A thread that owns durable state has ended by itself: nothing can be accepted any more. */
  died(thread: 'log' | 'shipper', error: unknown): void;
  /** The roller has ended by itself and is started again. */
  rollerDied(error: unknown): void;
  /** A roller has started that has told nobody of its commits. */
  rollerStarted(): void;
}

/** A roller that ends at once each time must not keep a processor busy. */
const ROLLER_RESTART_MS = 1_000;

export type ClickHouseAccess = ShipWorkerData['clickhouse'];

export class Flusher {
  readonly #config: Config;
  readonly #flow: FlowMemory;
  readonly #events: FlusherEvents;
  readonly #slots: Int32Array;
  readonly #firstCommits: Float64Array;
  readonly #firstCommitsMonotonic: Float64Array;
  readonly #logBell: Doorbell;
  readonly #mainSleeper: Sleeper;
  readonly #toLog = new MessageChannel();
  readonly #toShipper = new MessageChannel();
  readonly #logToShipper = new MessageChannel();
  #toRoller: MessagePort | undefined;
  #logWorker: Worker | undefined;
  #shipWorker: Worker | undefined;
  #rollWorker: Worker | undefined;
  #ending = false;
  #onceStarted: (() => void) | undefined;

  constructor(config: Config, flow: FlowMemory, events: FlusherEvents) {
    this.#config = config;
    this.#flow = flow;
    this.#events = events;
    this.#slots = new Int32Array(flow.slots);
    this.#firstCommits = new Float64Array(flow.firstCommits);
    this.#firstCommitsMonotonic = new Float64Array(flow.firstCommitsMonotonic);
    this.#logBell = new Doorbell(flow.logBell);
    this.#mainSleeper = new Sleeper(flow.mainBell);
  }

  /** Starts the log thread; resolves when it has counted what earlier processes left and takes rows. */
  async startLog(): Promise<void> {
    const data: LogWorkerData = {
      flow: this.#flow,
      walDirectory: walDirectory(this.#config.dataDir),
      flushIntervalMs: this.#config.flushIntervalMs,
      commitDelayUs: this.#config.commitDelayUs,
      walMaxBytes: this.#config.walMaxBytes,
      logLevel: this.#config.logLevel,
      messages: this.#toLog.port2,
      wakeMain: this.wakePort(),
      wakeShipper: this.#logToShipper.port1,
    };
    this.#mainSleeper.prepare();
    const started = new Promise<void>((resolve) => {
      this.#onceStarted = resolve;
    });
    this.#logWorker = this.#spawn('log', 'log-worker.js', data, [data.messages, data.wakeMain, data.wakeShipper]);
    await started;
  }

  /** Starts the shipper thread, once ClickHouse has the tables that it ships to. */
  startShipper(clickhouse: ClickHouseAccess): void {
    const data: ShipWorkerData = {
      flow: this.#flow,
      walDirectory: walDirectory(this.#config.dataDir),
      deadLetterDirectory: deadLetterDirectory(this.#config.dataDir),
      deadLetterMaxBytes: this.#config.deadLetterMaxBytes,
      walKeepMs: this.#config.walKeepMs,
      walMaxBytes: this.#config.walMaxBytes,
      logLevel: this.#config.logLevel,
      clickhouse,
      messages: this.#toShipper.port2,
      wakes: this.#logToShipper.port2,
    };
    this.#shipWorker = this.#spawn('shipper', 'ship-worker.js', data, [data.messages, data.wakes]);
    this.#startRoller(clickhouse);
  }

  /** Nothing durable depends on the roller: another one takes up where it ended, after a while. */
  #startRoller(clickhouse: ClickHouseAccess): void {
    const fromShipper = new MessageChannel();
    const control = new MessageChannel();
    const { url, user, password, database } = clickhouse;
    const data: RollWorkerData = {
      flow: this.#flow,
      logLevel: this.#config.logLevel,
      clickhouse: { url, user, password, database },
      retentionDays: this.#config.retentionDays,
      shipped: fromShipper.port2,
      control: control.port2,
    };
    const hello: ShipperMessage = { type: 'roller', port: fromShipper.port1 };
    this.#toShipper.port1.postMessage(hello, [fromShipper.port1]);
    this.#toRoller = control.port1;
    const worker = new Worker(new URL('../workers/roller/roll-worker.js', import.meta.url), {
      workerData: data,
      transferList: [data.shipped, data.control],
      name: 'penstock-roller',
      resourceLimits: { maxYoungGenerationSizeMb: THREAD_YOUNG_MIB },
    });
    this.#rollWorker = worker;
    worker.on('error', (error) => this.#events.rollerDied(error));
    worker.on('exit', () => {
      if (this.#ending) return;
      Atomics.store(this.#slots, FLOW_SLOT.rollupReady, 0);
      setTimeout(() => {
        if (!this.#ending) this.#startRoller(clickhouse);
      }, ROLLER_RESTART_MS).unref();
    });
    this.#events.rollerStarted();
  }

  /** `port` is told of the roller's commits, as CommitMessages, until it starts anew. */
  followCommits(port: MessagePort): void {
    this.#toRoller?.postMessage({ type: 'follow', port } satisfies RollerMessage, [port]);
  }

  /** A port for another thread: any message on it wakes main. */
  wakePort(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    port1.on('message', () => this.#wake());
    return port2;
  }

  attach(id: number, channel: ChannelMemory): void {
    this.#tellLog({ type: 'attach', id, channel });
  }

  close(id: number): void {
    this.#tellLog({ type: 'close', id });
  }

  /** The log thread waits for something that main has just done. */
  ringLog(): void {
    this.#logBell.ring();
  }

  /** LOG_STATE. */
  get logState(): number {
    return Atomics.load(this.#slots, FLOW_SLOT.logState);
  }

  get shipperStarted(): boolean {
    return this.#shipWorker !== undefined;
  }

  /**
   * Unix seconds before which every event that this data directory's instance acknowledged is in ClickHouse: the first commit
   * of the oldest segment that is not, or now where there is none. The clock is read first: what is acknowledged while we
   * look is later. Where the clock was set meanwhile, the earlier of what the two clocks say: in between, events may have been
   * acknowledged at any time of day.
   */
  asOfShipped(): number {
    return this.#asOf(FLOW_SLOT.shippedThrough);
  }

  /** The same for the rollup. */
  asOfRolled(): number {
    return this.#asOf(FLOW_SLOT.rolledThrough);
  }

  /** Whether the rollup has everything that was in ClickHouse when its roller started. */
  get rollupReady(): boolean {
    return Atomics.load(this.#slots, FLOW_SLOT.rollupReady) === 1;
  }

  #asOf(slot: number): number {
    const now = Date.now();
    const through = Atomics.load(this.#slots, slot);
    const active = Atomics.load(this.#slots, FLOW_SLOT.activeOrdinal);
    for (let ordinal = through + 1; ordinal <= active; ordinal += 1) {
      const first = this.#firstCommits[ordinal % SEGMENTS_MAX] ?? 0;
      if (first === 0) continue;
      const ageMs = monotonicMs() - (this.#firstCommitsMonotonic[ordinal % SEGMENTS_MAX] ?? 0);
      return Math.min(first, now - Math.max(0, ageMs)) / 1000;
    }
    return now / 1000;
  }

  /** Segments that wait for ClickHouse, the active one included. */
  get pendingSegments(): number {
    return Atomics.load(this.#slots, FLOW_SLOT.activeOrdinal) - Atomics.load(this.#slots, FLOW_SLOT.shippedThrough);
  }

  /** Commits what the encoders have published, seals the log and ends its thread. */
  async drainLog(): Promise<void> {
    this.#ending = true;
    await this.#ended(this.#logWorker, () => this.#tellLog({ type: 'drain' }));
  }

  /** Ships what is left for at most `timeoutMs` and ends the shipper; the rest stays in the log. */
  async drainShipper(timeoutMs: number): Promise<void> {
    this.#ending = true;
    await this.#ended(this.#shipWorker, () => {
      const message: ShipperMessage = { type: 'drain', timeoutMs };
      this.#toShipper.port1.postMessage(message);
    });
  }

  /** Ends the roller where it is: what it has not committed is rolled at the next start. */
  async stopRoller(): Promise<void> {
    this.#ending = true;
    await this.#ended(this.#rollWorker, () => this.#toRoller?.postMessage({ type: 'stop' } satisfies RollerMessage));
  }

  async #ended(worker: Worker | undefined, ask: () => void): Promise<void> {
    if (worker === undefined || worker.threadId === -1) return;
    const exited = new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
    });
    ask();
    await exited;
  }

  #spawn(thread: 'log' | 'shipper', file: string, workerData: object, transferList: MessagePort[]): Worker {
    const worker = new Worker(new URL(`../workers/flusher/${file}`, import.meta.url), {
      workerData,
      transferList,
      name: `penstock-${thread}`,
      resourceLimits: { maxYoungGenerationSizeMb: THREAD_YOUNG_MIB },
    });
    worker.on('error', (error) => this.#events.died(thread, error));
    worker.on('exit', () => {
      if (!this.#ending) this.#events.died(thread, undefined);
    });
    return worker;
  }

  /** The doorbell is set again before we look: whoever publishes after that wakes us once more. */
  #wake(): void {
    this.#mainSleeper.prepare();
    if (this.#onceStarted !== undefined && this.logState !== LOG_STATE.starting) {
      this.#onceStarted();
      this.#onceStarted = undefined;
    }
    this.#events.wake();
  }

  #tellLog(message: LogMessage): void {
    this.#toLog.port1.postMessage(message);
    Atomics.add(this.#slots, FLOW_SLOT.logMessages, 1);
    this.#logBell.ring();
  }
}
