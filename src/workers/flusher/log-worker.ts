import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { CHANNEL_SLOT, FLOW_SLOT, type FlowMemory, LOG_STATE, type LogMessage } from '../../shared/channel.js';
import { Counters } from '../../shared/counters.js';
import { Doorbell, Sleeper } from '../../shared/doorbell.js';
import { isDiskFull, messageOf } from '../../shared/errors.js';
import type { LogLevel } from '../../shared/config.js';
import { createLogger } from '../../shared/log.js';
import { Group, LogChannel } from './group-commit.js';
import { nodeFileSystem } from './wal/file-system.js';
import { Log } from './wal/log.js';
import { SpaceProbe } from './wal/space-probe.js';

/**
 * The log thread: gather all rings, append one frame, sync, advance the durable counters, wake main. Synchronous on
 * purpose: between two groups it sleeps on its doorbell, and while it syncs the next group gathers by itself.
 *
 * Owns invariant 1: a 202 is sent only after the `fdatasync` that covers the event.
 */

export interface LogWorkerData {
  readonly flow: FlowMemory;
  readonly walDirectory: string;
  readonly flushIntervalMs: number;
  readonly commitDelayUs: number;
  readonly walMaxBytes: number;
  readonly logLevel: LogLevel;
  /** LogMessages from main. */
  readonly messages: MessagePort;
  /** Any message on it wakes main. */
  readonly wakeMain: MessagePort;
  readonly wakeShipper: MessagePort;
}

/** Nothing is due: woken by the doorbell, or to look at the clock now and then. */
const IDLE_MS = 60_000;
/** An idle shipper gets what there is when the log has reached this share of its limit. */
const SEAL_SHARE = 1 / 4;
/** How often a disk that refused is tried again. */
const PROBE_INTERVAL_MS = 500;

/**
 * At middle rates a pause behind each commit (`commitDelayUs`) lets the next group gather: fewer syncs and fewer wake-ups of all threads. Light
 * load (groups of one or two) waits for nothing, at full load groups are large by themselves.
 */
const DELAYED_ROWS_MIN = 4;
const DELAYED_ROWS_MAX = 64;

class LogThread {
  readonly #data: LogWorkerData;
  readonly #log;
  readonly #flow: Int32Array;
  readonly #counters: Counters;
  readonly #sleeper: Sleeper;
  readonly #mainBell: Doorbell;
  readonly #shipperBell: Doorbell;
  readonly #wal: Log;
  readonly #probe: SpaceProbe;
  readonly #group = new Group();
  readonly #channels: LogChannel[] = [];
  /** Nobody rings it. */
  readonly #never = new Int32Array(new SharedArrayBuffer(4));
  #messagesSeen = 0;
  #draining = false;

  constructor(data: LogWorkerData) {
    this.#data = data;
    this.#log = createLogger({ level: data.logLevel, thread: 'log', sync: true });
    this.#flow = new Int32Array(data.flow.slots);
    this.#counters = new Counters(data.flow.counters);
    this.#sleeper = new Sleeper(data.flow.logBell);
    this.#mainBell = new Doorbell(data.flow.mainBell, () => data.wakeMain.postMessage(0));
    this.#shipperBell = new Doorbell(data.flow.shipperBell, () => data.wakeShipper.postMessage(0));
    this.#wal = new Log(nodeFileSystem, data.walDirectory, data.flow, this.#log);
    this.#probe = new SpaceProbe(nodeFileSystem, data.walDirectory);
  }

  run(): void {
    this.#setState(LOG_STATE.ok);
    this.#mainBell.ring();
    this.#prepareSegment();
    for (;;) {
      this.#takeMessages();
      this.#group.gather(this.#channels);
      if (this.#group.rows > 0) {
        const { rows } = this.#group;
        this.#commit();
        this.#closeChannels();
        this.#sealIfDue();
        if (rows >= DELAYED_ROWS_MIN && rows <= DELAYED_ROWS_MAX) this.#delay();
        continue;
      }
      this.#closeChannels();
      this.#sealIfDue();
      if (this.#draining) break;
      this.#rest();
    }
    this.#wal.close();
    this.#setState(LOG_STATE.drained);
    this.#shipperBell.ring();
    this.#mainBell.ring();
  }

  #delay(): void {
    const { commitDelayUs } = this.#data;
    if (commitDelayUs > 0) Atomics.wait(this.#never, 0, 0, commitDelayUs / 1000);
  }

  #commit(): void {
    const { rows, bytes, pieces } = this.#group;
    const from = performance.now();
    const ordinal = this.#activeOrdinal;
    try {
      this.#wal.append(pieces, bytes, rows);
    } catch (error) {
      this.#fail(error, rows);
      return;
    }
    // The segment before was full.
    if (this.#activeOrdinal !== ordinal) this.#shipperBell.ring();
    this.#counters.add('walCommits', 1);
    this.#counters.add('walRowsSynced', rows);
    this.#counters.add('walCommitSeconds', (performance.now() - from) / 1000);
    if (this.#state !== LOG_STATE.ok) this.#recovered();
    this.#group.durable();
    this.#mainBell.ring();
  }

  /** The disk refused: main answers the group's requests, the next group goes into a new segment. */
  #fail(error: unknown, rows: number): void {
    const full = isDiskFull(error);
    if (this.#state === LOG_STATE.ok) {
      this.#log.error(
        { err: error, rows },
        full
          ? 'the disk is full: events are refused until there is room'
          : 'the log cannot be written: events are refused',
      );
    }
    this.#counters.add('walFailures', 1);
    this.#counters.add('walRowsRefused', rows);
    this.#setState(full ? LOG_STATE.diskFull : LOG_STATE.failing);
    this.#shipperBell.ring();
    this.#group.failed(full ? 'disk_full' : 'log_failed');
    for (;;) {
      this.#mainBell.ring();
      // Main rings when it has answered; it writes failureSeen first, and we look again after announcing sleep.
      this.#sleeper.prepare();
      if (this.#group.settled()) break;
      this.#sleeper.sleep(100);
    }
    this.#sleeper.stayAwake();
  }

  /** Sleeps until there is something to do: rows, a message, the time to seal, the time to try the disk again. */
  #rest(): void {
    this.#sleeper.prepare();
    if (this.#channels.some((channel) => channel.rows.hasNext) || this.#messagesSeen !== this.#messageCount) {
      this.#sleeper.stayAwake();
      return;
    }
    if (this.#state === LOG_STATE.diskFull || this.#state === LOG_STATE.failing) {
      this.#sleeper.sleep(PROBE_INTERVAL_MS);
      this.#tryDisk();
      return;
    }
    this.#sleeper.sleep(Math.max(1, Math.min(IDLE_MS, this.#msUntilSeal())));
  }

  #sealIfDue(): void {
    if (this.#wal.activeRows === 0 || this.#msUntilSeal() > 0) return;
    this.#wal.seal();
    this.#shipperBell.ring();
    this.#prepareSegment();
  }

  /**
   * A segment seals when it is full (`Log.append`), or when the shipper is idle and the segment is older than the flush
   * interval, or so large that the log would soon be at its limit. The shipper stores its idleness before it rings us, so we cannot sleep past it.
   */
  #msUntilSeal(): number {
    if (this.#wal.activeRows === 0 || Atomics.load(this.#flow, FLOW_SLOT.shipperIdle) === 0) return IDLE_MS;
    const unshipped = this.#counters.get('walBytesAppended') - this.#counters.get('walBytesFreed');
    if (unshipped > this.#data.walMaxBytes * SEAL_SHARE) return 0;
    return this.#data.flushIntervalMs - this.#wal.activeAgeMs;
  }

  #prepareSegment(): void {
    try {
      this.#wal.prepare();
    } catch (error) {
      // The first group that needs the segment will say so to those whom it concerns.
      this.#log.warn({ reason: messageOf(error) }, 'cannot open the next segment');
    }
  }

  #tryDisk(): void {
    const refusal = this.#probe.try();
    if (refusal === undefined) this.#recovered();
    else this.#setState(isDiskFull(refusal) ? LOG_STATE.diskFull : LOG_STATE.failing);
  }

  #recovered(): void {
    this.#log.info('the log can be written again');
    this.#setState(LOG_STATE.ok);
    this.#mainBell.ring();
  }

  get #activeOrdinal(): number {
    return Atomics.load(this.#flow, FLOW_SLOT.activeOrdinal);
  }

  get #messageCount(): number {
    return Atomics.load(this.#flow, FLOW_SLOT.logMessages);
  }

  #takeMessages(): void {
    if (this.#messagesSeen === this.#messageCount) return;
    for (;;) {
      const received = receiveMessageOnPort(this.#data.messages);
      if (received === undefined) return;
      this.#messagesSeen += 1;
      this.#take(received.message as LogMessage);
    }
  }

  #take(message: LogMessage): void {
    switch (message.type) {
      case 'attach':
        this.#channels.push(new LogChannel(message.id, message.channel));
        break;
      case 'close':
        for (const channel of this.#channels) if (channel.id === message.id) channel.closing = true;
        break;
      case 'drain':
        this.#draining = true;
        break;
    }
  }

  /** Called when a gathering found nothing: what a dead encoder had published is durable, or was answered as failed. */
  #closeChannels(): void {
    for (let i = this.#channels.length - 1; i >= 0; i -= 1) {
      const channel = this.#channels[i];
      if (channel?.closing !== true || channel.rows.hasNext) continue;
      this.#channels.splice(i, 1);
      Atomics.store(channel.slots, CHANNEL_SLOT.closed, 1);
      this.#mainBell.ring();
    }
  }

  get #state(): number {
    return Atomics.load(this.#flow, FLOW_SLOT.logState);
  }

  #setState(state: number): void {
    Atomics.store(this.#flow, FLOW_SLOT.logState, state);
  }
}

new LogThread(workerData as LogWorkerData).run();
