import type { HttpResponse } from 'uWebSockets.js';
import type { RequestError } from '../shared/errors.js';

/**
 * Writes answers to sockets. Every answer leaves in one `tryEnd`, so that a reader that is slower than we are is fed from
 * `onWritable` instead of from a growing buffer: uWebSockets.js can lose corked data when a flush fails and more is
 * written behind it.
 */

const ACCEPTED = 202;
const ACCEPTED_LINE = '202 Accepted';
const STATUS_LINES: ReadonlyMap<number, string> = new Map([
  [200, '200 OK'],
  [ACCEPTED, ACCEPTED_LINE],
  [400, '400 Bad Request'],
  [401, '401 Unauthorized'],
  [403, '403 Forbidden'],
  [404, '404 Not Found'],
  [405, '405 Method Not Allowed'],
  [413, '413 Payload Too Large'],
  [415, '415 Unsupported Media Type'],
  [429, '429 Too Many Requests'],
  [500, '500 Internal Server Error'],
  [503, '503 Service Unavailable'],
]);

export interface Reply {
  readonly status: number;
  readonly body: string | Uint8Array;
  /** Defaults to `application/json`. */
  readonly contentType?: string;
  readonly headers?: readonly (readonly [name: string, value: string])[];
  /** Closes the connection behind the answer. */
  readonly close?: boolean;
  /** Answers a HEAD request: the head that GET would have, without the body. */
  readonly headOnly?: boolean;
  /** The bytes of `body` are not read any more. Not called where the client goes before it has all of them. */
  readonly done?: () => void;
}

let closing = false;

/** From now on every answer, whatever was asked, closes its connection: clients are to come back through another one. */
export function closeConnections(): void {
  closing = true;
}

/** Whether the connection is to be closed behind an answer: the second argument of `end`, which then says so in the head. */
export function closesConnection(): boolean {
  return closing;
}

/**
 * Answers above this many bytes are written with back-pressure. Below it, too, a client may ask again and again without
 * reading; above it, that would fill the memory: uWebSockets.js closes who asks again while such an answer is pending.
 */
const END_MAX_BYTES = 4 * 1024;
/** Of answers that are read by who asked with a body of that order: above it they wait for their reader in a copy. */
export const ONE_WRITE_MAX_BYTES = 64 * 1024;

export function statusLine(status: number): string {
  // Nearly all of them.
  if (status === ACCEPTED) return ACCEPTED_LINE;
  return STATUS_LINES.get(status) ?? `${status} Unknown`;
}

/**
 * Sends one answer. The caller has set `onAborted` and has seen that the request is still there.
 * The bytes of `reply.body` must not change until the answer is out.
 */
export function send(res: HttpResponse, reply: Reply): void {
  res.cork(() => {
    res.writeStatus(statusLine(reply.status));
    res.writeHeader('Content-Type', reply.contentType ?? 'application/json');
    for (const [name, value] of reply.headers ?? []) res.writeHeader(name, value);
    const close = reply.close === true || closing;
    const isLarge = Buffer.byteLength(reply.body) > END_MAX_BYTES;
    // `end` and `sendLarge` write it themselves.
    if (close && reply.headOnly === true) res.writeHeader('Connection', 'close');
    if (reply.headOnly === true) {
      // Given any argument, even undefined, endWithoutBody does not end the answer, and an answer that is not ended when its
      // handler returns ends the process.
      res.writeHeader('Content-Length', String(Buffer.byteLength(reply.body)));
      res.endWithoutBody();
      reply.done?.();
      return;
    }
    if (!isLarge) {
      res.end(reply.body, close);
      reply.done?.();
      return;
    }
    const bytes = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body;
    sendLarge(res, bytes, () => reply.done?.(), close);
  });
}

/** Sends a body behind a head that is written, as fast as it is read; calls `done` when all of it is out. */
export function sendLarge(res: HttpResponse, bytes: Uint8Array, done: () => void, close = closing): void {
  if (close) res.writeHeader('Connection', 'close');
  const [, isOut] = res.tryEnd(bytes, bytes.length);
  if (isOut) {
    done();
    return;
  }
  res.onWritable((offset) => {
    const [ok, isRestOut] = res.tryEnd(bytes.subarray(offset), bytes.length);
    if (isRestOut) done();
    return ok;
  });
}

export function sendJson(res: HttpResponse, status: number, value: unknown, options: Partial<Reply> = {}): void {
  send(res, { ...options, status, body: JSON.stringify(value) });
}

/** The one shape of every refusal (api.md), with `Retry-After` where a retry can help. */
export function sendError(res: HttpResponse, error: RequestError, options: Partial<Reply> = {}): void {
  const headers = [...(options.headers ?? [])];
  if (error.retryAfterS !== undefined) headers.push(['Retry-After', String(Math.max(1, Math.ceil(error.retryAfterS)))]);
  sendJson(res, error.status, error.body(), { ...options, headers });
}
