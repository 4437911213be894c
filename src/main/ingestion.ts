import { type FAILURE_CODES, type FlowMemory, LOG_STATE } from '../shared/channel.js';
import type { Config } from '../shared/config.js';
import type { Counters } from '../shared/counters.js';
import { RequestError } from '../shared/errors.js';
import type { Logger } from '../shared/log.js';
import { admit, type AdmissionState, overloaded, type Refusal } from './admission.js';
import { AnswerRate } from './answer-rate.js';
import { ApiKeys } from './api-keys.js';
import type { EncoderChannel } from './encoder.js';
import { Encoders } from './encoders.js';
import type { Flusher } from './flusher.js';
import { HeldRefusals } from './held-refusals.js';
import { Intake } from './intake.js';
import { LatencyHistogram } from './latency.js';
import { Requests } from './requests.js';
import { closeConnections } from './reply.js';
import { Responder } from './responder.js';

/** The way of an event through main, put together: intake to encoders, answers back to sockets. */

const RATE_INTERVAL_MS = 1_000;

export class Ingestion {
  readonly requests = new Requests();
  readonly latency = new LatencyHistogram();
  readonly keys: ApiKeys;
  readonly held: HeldRefusals;
  readonly responder: Responder;
  readonly encoders: Encoders;
  readonly intake: Intake;
  readonly #config: Config;
  readonly #flusher: Flusher;
  readonly #counters: Counters;
  readonly #log: Logger;
  readonly #rateTimer: NodeJS.Timeout;
  readonly #rate = new AnswerRate();
  /** Ms on the monotonic clock by which the process ends; undefined while it is not shutting down. */
  #drainDeadline: number | undefined;
  #refusing = false;
  /** Ms on the monotonic clock. */
  #collectedAt = 0;
  #isGateFresh = false;
  /** Of bodies in flight; 0 while nothing may come in. */
  #bytesUntilRefusal = 0;

  constructor(config: Config, flow: FlowMemory, flusher: Flusher, counters: Counters, log: Logger) {
    this.#config = config;
    this.#flusher = flusher;
    this.#counters = counters;
    this.#log = log;
    this.keys = new ApiKeys(config.apiKeys);
    this.held = new HeldRefusals({ answersPerSecond: () => this.#rate.perSecond });
    this.responder = new Responder(this.requests, counters, this.latency, this.held);
    this.encoders = new Encoders(config, flow, flusher, counters, log, {
      answer: (number, status, body, accepted, refused, code) => {
        const request = this.requests.get(number);
        if (request === undefined) return;
        this.#rate.answered();
        this.responder.answer(request, { status, body, accepted, refused, code }, this.#collectedAt);
      },
      failed: (number, code) => this.#failed(number, code),
      lost: (channel, culprit) => this.#lost(channel, culprit),
      started: () => this.intake.pump(),
    });
    this.intake = new Intake({
      requests: this.requests,
      responder: this.responder,
      encoders: this.encoders,
      keys: this.keys,
      bodyMaxBytes: config.bodyMaxBytes,
      admit: () => this.#admit(),
      hasRoom: () => this.requests.bytes < config.inFlightMaxBytes,
      overloaded: () => overloaded(this.#state()),
    });
    this.#rateTimer = setInterval(() => this.#rate.secondOver(this.requests.open), RATE_INTERVAL_MS).unref();
  }

  /** Bytes of log that ClickHouse has not confirmed. */
  get walBytes(): number {
    return this.#counters.get('walBytesAppended') - this.#counters.get('walBytesFreed');
  }

  get isDraining(): boolean {
    return this.#drainDeadline !== undefined;
  }

  /** Called whenever main is woken: passes on all that is due. */
  collect(): void {
    this.#collectedAt = performance.now();
    this.encoders.collect();
    this.responder.publish();
    this.intake.pump();
  }

  /** From now on readiness is false and answers close their connections; requests are still served. */
  startDraining(timeoutMs: number): void {
    this.#drainDeadline = performance.now() + timeoutMs;
    closeConnections();
  }

  /** From now on every new request is refused with `draining`. */
  refuseNew(): void {
    this.#refusing = true;
    this.#isGateFresh = false;
    this.held.releaseAll();
  }

  /** Why nothing new is taken while the process ends; undefined before. */
  get drainRefusal(): RequestError | undefined {
    const refusal = this.#refusing ? admit(this.#state()) : undefined;
    return refusal === undefined ? undefined : RequestError.of(refusal);
  }

  /** Refuses what was not answered in time. */
  giveUpOpen(): void {
    for (const request of this.requests.all())
      this.responder.refuse(request, admit({ ...this.#state(), draining: true }) ?? overloaded(this.#state()));
  }

  stop(): void {
    clearInterval(this.#rateTimer);
  }

  /** What cannot change within an event-loop turn, or need not be known at once, is looked at once a turn. */
  #admit(): Refusal | undefined {
    if (!this.#isGateFresh) this.#refreshGate();
    if (this.requests.open < this.#config.inFlightMaxRequests && this.requests.bytes < this.#bytesUntilRefusal) {
      return undefined;
    }
    return admit(this.#state());
  }

  #refreshGate(): void {
    this.#isGateFresh = true;
    setImmediate(() => {
      this.#isGateFresh = false;
    });
    const { walMaxBytes, inFlightMaxBytes } = this.#config;
    const isOpen = !this.#refusing && this.#flusher.logState === LOG_STATE.ok;
    this.#bytesUntilRefusal = isOpen ? Math.min(inFlightMaxBytes, walMaxBytes - this.walBytes) : 0;
  }

  /** The log could not take its rows. */
  #failed(number: number, code: (typeof FAILURE_CODES)[number]): void {
    const request = this.requests.get(number);
    if (request === undefined) return;
    const refusal = admit(this.#state());
    this.responder.refuse(
      request,
      refusal?.code === code ? refusal : { code, message: 'the write-ahead log could not take this', retryAfterS: 1 },
    );
  }

  /** Its encoder has died: the body that it was at work on gets 500, what else it had 503. */
  #lost(channel: EncoderChannel, culprit: number | undefined): void {
    for (const request of this.requests.of(channel)) {
      const error =
        request.number === culprit
          ? new RequestError(
              'internal_error',
              'the thread that worked on this body ended; sent again, it will be refused',
            )
          : new RequestError('encoder_failed', 'the thread that had this request ended; send it again', {
              retryAfterS: 1,
            });
      this.#log.warn({ request: request.number, code: error.code }, 'a request was lost with its encoder thread');
      this.responder.refuse(request, error);
    }
  }

  #state(): AdmissionState {
    return {
      draining: this.#refusing,
      logState: this.#flusher.logState,
      walBytes: this.walBytes,
      walMaxBytes: this.#config.walMaxBytes,
      shipBytesPerSecond: this.#counters.get('shipBytesPerSecond'),
      openRequests: this.requests.open,
      maxRequests: this.#config.inFlightMaxRequests,
      bodyBytes: this.requests.bytes,
      maxBodyBytes: this.#config.inFlightMaxBytes,
      answersPerSecond: this.#rate.perSecond,
      drainSecondsLeft: ((this.#drainDeadline ?? 0) - performance.now()) / 1000,
    };
  }
}
