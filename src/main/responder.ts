import type { Counters } from '../shared/counters.js';
import { type ErrorCode, RequestError } from '../shared/errors.js';
import type { Refusal } from './admission.js';
import type { HeldRefusals } from './held-refusals.js';
import type { LatencyHistogram } from './latency.js';
import { closesConnection, ONE_WRITE_MAX_BYTES, type Reply, sendError, sendLarge, statusLine } from './reply.js';
import type { PendingRequest, Requests } from './requests.js';

/** What an encoder answers. */
interface EncoderAnswer {
  readonly status: number;
  /** May stand in shared memory. */
  readonly body: Uint8Array;
  readonly accepted: number;
  readonly refused: number;
  /** Of a refusal. */
  readonly code: ErrorCode | undefined;
}

/** Settles each event request exactly once, and counts what was answered. */
export class Responder {
  readonly #requests: Requests;
  readonly #counters: Counters;
  readonly #latency: LatencyHistogram;
  readonly #held: HeldRefusals;
  readonly #refusals = new Map<string, number>();
  /** Events, since the last `publish`. */
  #accepted = 0;
  #refused = 0;

  constructor(requests: Requests, counters: Counters, latency: LatencyHistogram, held: HeldRefusals) {
    this.#requests = requests;
    this.#held = held;
    this.#counters = counters;
    this.#latency = latency;
  }

  /** Event requests answered with an error, by code. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#refusals;
  }

  /** Adds what was answered to the counters; called behind each round of answers. */
  publish(): void {
    this.#counters.add('acceptedEvents', this.#accepted);
    this.#counters.add('refusedEvents', this.#refused);
    this.#accepted = 0;
    this.#refused = 0;
  }

  /** Sends an encoder's answer; its body is copied to the socket's buffers before this returns. */
  answer(request: PendingRequest, { status, body, accepted, refused, code }: EncoderAnswer, nowMs: number): void {
    this.#accepted += accepted;
    this.#refused += refused;
    request.apiKey?.spend(accepted + refused);
    if (status === 202) this.#latency.observe((nowMs - request.startedAt) / 1000);
    else this.#countRefusal(code ?? 'internal_error');
    if (!request.closed && body.length > ONE_WRITE_MAX_BYTES) {
      // The ring is free again when this returns; the rest of the answer waits for its reader in a copy.
      this.#answerLarge(request, status, Buffer.from(body));
      return;
    }
    if (!request.closed) {
      const { res } = request;
      request.closed = true;
      res.cork(() => {
        res.writeStatus(statusLine(status)).writeHeader('Content-Type', 'application/json');
        res.end(body, closesConnection());
      });
    }
    this.#requests.remove(request);
  }

  /** The request stays open, and its answer is counted, until the last of it is in the system's hands. */
  #answerLarge(request: PendingRequest, status: number, body: Buffer): void {
    const { res } = request;
    // No encoder's death concerns it any more, and an abort ends it at once.
    this.#requests.detach(request);
    request.answering = true;
    this.#requests.grow(request, body.length);
    const done = (): void => this.#requests.remove(request);
    res.onAborted(done);
    res.cork(() => {
      res.writeStatus(statusLine(status)).writeHeader('Content-Type', 'application/json');
      sendLarge(res, body, done);
    });
  }

  refuse(request: PendingRequest, refusal: Refusal | RequestError): void {
    const error = refusal instanceof RequestError ? refusal : RequestError.of(refusal);
    this.#countRefusal(error.code);
    if (request.answering) {
      // It has the head of another answer already.
      request.res.close();
    } else if (!request.closed) {
      request.closed = true;
      this.#held.send(request.res, error);
    }
    this.#requests.remove(request);
  }

  /** Refuses what never became a pending request. */
  refuseAtHead(res: PendingRequest['res'], error: RequestError, options?: Partial<Reply>): void {
    this.#countRefusal(error.code);
    if (options === undefined) this.#held.send(res, error);
    else sendError(res, error, options);
  }

  #countRefusal(code: ErrorCode): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
  }
}
