import { Piscina } from 'piscina';
import { createChannel, type FAILURE_CODES, type FlowMemory, REQUEST_FLAG } from '../shared/channel.js';
import type { Config } from '../shared/config.js';
import type { Counters } from '../shared/counters.js';
import { createForgottenUsers } from '../shared/forgotten-users.js';
import { ENCODER_YOUNG_MIB, INLINE_BODY_MAX_BYTES } from '../shared/limits.js';
import type { Logger } from '../shared/log.js';
import type { EncoderTask } from '../workers/encoder/worker.js';
import { type AnswerSink, bodyFingerprint, EncoderChannel, type RequestHead } from './encoder.js';
import type { Flusher } from './flusher.js';

/**
 * The encoders: one long-lived Piscina task a thread, each with its channel. Main writes requests as they come and
 * publishes once per event-loop turn.
 *
 * Invariant 5 (an encoder's death costs no acknowledged event): a dead encoder's channel is settled only when the log thread
 * has taken all that it published; its successor has a channel of its own, so that no count of the dead is taken for it.
 */

/** A backlog that an encoder is through with in well under a millisecond. */
const LITTLE_BYTES = 128 * 1024;
/** Bodies remembered because an encoder died of them. */
const KILLERS_MAX = 256;
/** From this many deaths on, a body is refused. */
const KILLS_MAX = 2;
/** Deaths of one thread in a row are followed by a pause before its successor starts, doubling up to this. */
const RESTART_PAUSE_MAX_MS = 2_000;

export interface EncodersEvents {
  answer: AnswerSink['answer'];
  failed(number: number, code: (typeof FAILURE_CODES)[number]): void;
  /** These requests have no answer and will get none; `culprit` is the one that the encoder was at work on. */
  lost(channel: EncoderChannel, culprit: number | undefined): void;
  /** Another encoder takes requests: what waits for one may go to it. */
  started(): void;
}

export class Encoders {
  /** Memory of ForgottenUsers, which all encoders read. */
  readonly forgottenUsers = createForgottenUsers();
  readonly #config: Config;
  readonly #flow: FlowMemory;
  readonly #flusher: Flusher;
  readonly #counters: Counters;
  readonly #log: Logger;
  readonly #events: EncodersEvents;
  readonly #pool: Piscina<EncoderTask, void>;
  readonly #live: (EncoderChannel | undefined)[] = [];
  /** Of dead threads, until they are settled. */
  readonly #closing: EncoderChannel[] = [];
  readonly #deathsInRow: number[] = [];
  readonly #kills = new Map<string, number>();
  readonly #tasks = new Set<Promise<void>>();
  #nextId = 1;
  #publishing = false;
  #stopping = false;

  constructor(
    config: Config,
    flow: FlowMemory,
    flusher: Flusher,
    counters: Counters,
    log: Logger,
    events: EncodersEvents,
  ) {
    this.#config = config;
    this.#flow = flow;
    this.#flusher = flusher;
    this.#counters = counters;
    this.#log = log;
    this.#events = events;
    this.#pool = new Piscina({
      filename: new URL('../workers/encoder/worker.js', import.meta.url).href,
      minThreads: config.encoderThreads,
      maxThreads: config.encoderThreads,
      idleTimeout: Infinity,
      // The task waits on its own doorbell; Piscina has nothing to wake it for.
      atomics: 'disabled',
      recordTiming: false,
      resourceLimits: { maxYoungGenerationSizeMb: ENCODER_YOUNG_MIB },
    });
    for (let index = 0; index < config.encoderThreads; index += 1) this.#start(index);
  }

  get running(): number {
    return this.#live.filter((channel) => channel !== undefined).length;
  }

  /** Why not all encoders are there; undefined where they are. */
  get fault(): string | undefined {
    const { running } = this;
    if (running === this.#config.encoderThreads) return undefined;
    return `${running} of ${this.#config.encoderThreads} encoder threads are running`;
  }

  /**
   * Hands a request to the first encoder that has little to do, or else to the one that has least: under light load one
   * thread is woken for a whole batch instead of all of them for a share each. Undefined where none has room.
   */
  submit(head: RequestHead, body: Uint8Array): EncoderChannel | undefined {
    const large = body.length > INLINE_BODY_MAX_BYTES;
    const isBulk = (head.flags & REQUEST_FLAG.bulk) !== 0;
    let best: EncoderChannel | undefined;
    let least = Infinity;
    for (const channel of this.#live) {
      if (channel === undefined || (large && !channel.takesLargeBody)) continue;
      if (isBulk && !channel.takesBulk(body.length)) continue;
      const backlog = channel.backlogBytes;
      if (backlog >= least) continue;
      best = channel;
      least = backlog;
      if (backlog < LITTLE_BYTES) break;
    }
    if (best?.submit(head, body) !== true) return undefined;
    if (!this.#publishing) {
      this.#publishing = true;
      setImmediate(() => this.#publish());
    }
    return best;
  }

  /** Whether encoders have died of this very body. */
  isKiller(body: Uint8Array): boolean {
    return this.#kills.size > 0 && (this.#kills.get(bodyFingerprint(body)) ?? 0) >= KILLS_MAX;
  }

  /** Passes on all answers that are due; called whenever main is woken. */
  collect(): void {
    let sawFailure = false;
    for (const channel of this.#live) sawFailure = (channel?.collect(this.#events) ?? false) || sawFailure;
    for (let i = this.#closing.length - 1; i >= 0; i -= 1) {
      const channel = this.#closing[i];
      if (channel === undefined) continue;
      // Closed is read before the answers: what was published before it was set is collected after.
      const { closed } = channel;
      sawFailure = channel.collect(this.#events) || sawFailure;
      if (!closed) continue;
      this.#closing.splice(i, 1);
      this.#events.lost(channel, channel.currentRequest);
    }
    if (sawFailure) this.#flusher.ringLog();
  }

  /** Lets every encoder finish what it has; resolves when all threads have returned. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#publish();
    for (const channel of this.#live) channel?.stop();
    await Promise.allSettled(this.#tasks);
    await this.#pool.destroy();
  }

  #publish(): void {
    this.#publishing = false;
    for (const channel of this.#live) channel?.publish();
  }

  #start(index: number): void {
    const { bodyMaxBytes, bulkMaxEvents, logLevel, channels, futureToleranceS, retentionDays } = this.#config;
    const channel = new EncoderChannel(index, this.#nextId, createChannel(bodyMaxBytes, bulkMaxEvents));
    this.#nextId += 1;
    this.#flusher.attach(channel.id, channel.memory);
    const { mainBell, logBell } = this.#flow;
    const wakeMain = this.#flusher.wakePort();
    const task = {
      channel: channel.memory,
      mainBell,
      logBell,
      wakeMain,
      logLevel,
      channels,
      futureToleranceS,
      retentionDays,
      forgottenUsers: this.forgottenUsers,
      bodyMaxBytes,
      bulkMaxEvents,
    };
    const startedAt = performance.now();
    const run = this.#pool.run(task, { transferList: [wakeMain] }).then(
      () => this.#ended(channel, startedAt, undefined),
      (error: unknown) => this.#ended(channel, startedAt, error),
    );
    this.#tasks.add(run);
    void run.finally(() => this.#tasks.delete(run));
    this.#live[index] = channel;
  }

  #ended(channel: EncoderChannel, startedAt: number, error: unknown): void {
    this.#live[channel.index] = undefined;
    this.#flusher.close(channel.id);
    this.#closing.push(channel);
    if (this.#stopping && error === undefined) return;
    this.#rememberKiller(channel);
    this.#counters.add('encoderDeaths', 1);
    this.#log.error({ err: error, encoder: channel.index }, 'an encoder thread died; another is started');
    const livedLong = performance.now() - startedAt > 10_000;
    const deaths = livedLong ? 1 : (this.#deathsInRow[channel.index] ?? 0) + 1;
    this.#deathsInRow[channel.index] = deaths;
    const pauseMs = deaths <= 3 ? 0 : Math.min(RESTART_PAUSE_MAX_MS, 50 * 2 ** (deaths - 3));
    setTimeout(() => {
      if (this.#stopping) return;
      this.#start(channel.index);
      this.#events.started();
    }, pauseMs);
  }

  #rememberKiller(channel: EncoderChannel): void {
    const culprit = channel.currentRequest;
    const fingerprint = culprit === undefined ? undefined : channel.fingerprint(culprit);
    if (fingerprint === undefined) return;
    const kills = (this.#kills.get(fingerprint) ?? 0) + 1;
    this.#kills.delete(fingerprint);
    this.#kills.set(fingerprint, kills);
    const oldest = this.#kills.keys().next().value;
    if (this.#kills.size > KILLERS_MAX && oldest !== undefined) this.#kills.delete(oldest);
  }
}
