import type { Counters } from '../shared/counters.js';
import { RequestError } from '../shared/errors.js';
import type { Refusal } from './admission.js';
import type { LatencyHistogram } from './latency.js';
import { type Reply, sendError, statusLine } from './reply.js';
import type { PendingRequest, Requests } from './requests.js';

/** Settles each event request exactly once, and counts what was answered. */
export class Responder {
  readonly #requests: Requests;
  readonly #counters: Counters;
  readonly #latency: LatencyHistogram;
  readonly #refusals = new Map<string, number>();
  /** Set while draining: clients are to come back through another connection. */
  closeConnections = false;

  constructor(requests: Requests, counters: Counters, latency: LatencyHistogram) {
    this.#requests = requests;
    this.#counters = counters;
    this.#latency = latency;
  }

  /** Event requests answered with an error, by code. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#refusals;
  }

  /**
   * Sends an encoder's answer. `body` may stand in shared memory: it is copied to the socket's buffers before this returns.
   */
  answer(
    request: PendingRequest,
    status: number,
    body: Uint8Array,
    accepted: number,
    refused: number,
    nowMs: number,
  ): void {
    this.#counters.add('acceptedEvents', accepted);
    this.#counters.add('refusedEvents', refused);
    request.apiKey?.spend(accepted + refused);
    if (status === 202) this.#latency.observe((nowMs - request.startedAt) / 1000);
    else this.#countRefusal(status === 400 ? 'validation_error' : String(status));
    if (!request.closed) {
      const { res } = request;
      const close = this.closeConnections;
      request.closed = true;
      res.cork(() => {
        res.writeStatus(statusLine(status)).writeHeader('Content-Type', 'application/json');
        if (close) res.writeHeader('Connection', 'close');
        res.end(body, close);
      });
    }
    this.#requests.remove(request);
  }

  refuse(request: PendingRequest, refusal: Refusal | RequestError): void {
    const error = refusal instanceof RequestError ? refusal : RequestError.of(refusal);
    this.#countRefusal(error.code);
    if (!request.closed) {
      request.closed = true;
      sendError(request.res, error, this.#options());
    }
    this.#requests.remove(request);
  }

  /** Refuses what never became a pending request. */
  refuseAtHead(res: PendingRequest['res'], error: RequestError, options: Partial<Reply> = {}): void {
    this.#countRefusal(error.code);
    sendError(res, error, { ...this.#options(), ...options });
  }

  #options(): Partial<Reply> {
    return this.closeConnections ? { close: true } : {};
  }

  #countRefusal(code: string): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
  }
}
