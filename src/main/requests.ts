import type { HttpResponse } from 'uWebSockets.js';
import type { ApiKeyState } from './api-keys.js';

/** Who works on a request. */
export interface WorkingEncoder {
  /** A bulk body of so many bytes has its answer. */
  bulkDone(bytes: number): void;
}

/**
 * Every request whose head was read and that has no answer yet, by number. The number crosses threads instead of the
 * request; it is free again only when its answer has come back, so that no late answer meets another request.
 *
 * Invariant 4: there are never more than `maxRequests` of them, nor more than `maxBytes` of bodies. A large answer that its
 * client does not read counts too, or whoever never reads could fill the memory with them.
 */
export interface PendingRequest {
  readonly number: number;
  res: HttpResponse;
  /** The client has gone, or was answered: the response object must not be touched. */
  closed: boolean;
  /** Ms on the monotonic clock. */
  startedAt: number;
  /** Its answer is on its way to a slow reader. */
  answering: boolean;
  /** Bytes of the body, and of an answer that waits for its reader, that count against the limit. */
  bodyBytes: number;
  /** Encoder that works on it; undefined before it has one. */
  encoder: WorkingEncoder | undefined;
  /** Bytes of a bulk body that its encoder has; 0 for a single event. */
  bulkBytes: number;
  apiKey: ApiKeyState | undefined;
}

export class Requests {
  readonly #table: (PendingRequest | undefined)[] = [];
  readonly #free: PendingRequest[] = [];
  #open = 0;
  #bytes = 0;

  /** Requests without an answer, those of clients that have gone included. */
  get open(): number {
    return this.#open;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(res: HttpResponse, startedAt: number, apiKey: ApiKeyState | undefined): PendingRequest {
    const reused = this.#free.pop();
    const request = reused ?? {
      number: this.#table.length,
      res,
      closed: false,
      answering: false,
      startedAt,
      bodyBytes: 0,
      encoder: undefined,
      bulkBytes: 0,
      apiKey,
    };
    request.res = res;
    request.closed = false;
    request.answering = false;
    request.startedAt = startedAt;
    request.apiKey = apiKey;
    this.#table[request.number] = request;
    this.#open += 1;
    return request;
  }

  get(number: number): PendingRequest | undefined {
    return this.#table[number];
  }

  /** Counts body bytes that were taken in for it. */
  grow(request: PendingRequest, bytes: number): void {
    request.bodyBytes += bytes;
    this.#bytes += bytes;
  }

  remove(request: PendingRequest): void {
    if (this.#table[request.number] !== request) return;
    this.#table[request.number] = undefined;
    this.#bytes -= request.bodyBytes;
    request.bodyBytes = 0;
    this.detach(request);
    request.apiKey = undefined;
    request.closed = true;
    this.#open -= 1;
    this.#free.push(request);
  }

  /** Its encoder has done with it. */
  detach(request: PendingRequest): void {
    if (request.bulkBytes > 0) request.encoder?.bulkDone(request.bulkBytes);
    request.bulkBytes = 0;
    request.encoder = undefined;
  }

  /** The requests that an encoder has and has not answered. */
  of(encoder: WorkingEncoder): PendingRequest[] {
    return this.#table.filter((request) => request?.encoder === encoder) as PendingRequest[];
  }

  all(): PendingRequest[] {
    return this.#table.filter((request) => request !== undefined);
  }
}
