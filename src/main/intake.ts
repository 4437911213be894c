import type { HttpRequest, HttpResponse } from 'uWebSockets.js';
import { type BodyEncoding, ENCODING_SHIFT, ENCODINGS, REQUEST_FLAG } from '../shared/channel.js';
import { ArrivalClock } from '../shared/clock.js';
import { RequestError } from '../shared/errors.js';
import { INLINE_BODY_MAX_BYTES } from '../shared/limits.js';
import type { Refusal } from './admission.js';
import type { ApiKeys, ApiKeyState } from './api-keys.js';
import type { Encoders } from './encoders.js';
import type { PendingRequest, Requests } from './requests.js';
import type { Responder } from './responder.js';

/**
 * One event request from its head to an encoder: key, encoding and size are looked at before the body is read, the body is
 * copied once into the encoder's memory (a body that comes in pieces, twice), and never parsed here.
 */

export interface IntakeDeps {
  readonly requests: Requests;
  readonly responder: Responder;
  readonly encoders: Encoders;
  readonly keys: ApiKeys;
  readonly bodyMaxBytes: number;
  /** Why no further request may come in now. */
  readonly admit: () => Refusal | undefined;
  /** Whether a request that is in may grow: it is itself among those that are counted for `admit`. */
  readonly hasRoom: () => boolean;
  readonly overloaded: () => Refusal;
}

/** Nothing longer is a UUID; the rest of a longer key is not looked at. */
const KEY_MAX_CHARS = 64;
const NDJSON_TYPES = /^application\/(x-ndjson|ndjson|jsonl|x-jsonlines)\b/i;
const MINIMAL = /\breturn\s*=\s*"?minimal\b/i;
/** A body over the limit is swallowed up to this much, so that its sender gets to read the 413; beyond, the connection goes. */
const SWALLOW_MAX_BYTES = 256 * 1024 * 1024;

interface Head {
  readonly flags: number;
  readonly key: string;
}

export class Intake {
  readonly #deps: IntakeDeps;
  readonly #clock = new ArrivalClock();
  /** Bodies that wait for an encoder: bulk bodies beyond what each may have at once, and those too large for its ring. */
  readonly #waiting: { request: PendingRequest; head: Head; arrivalUs: number; body: Uint8Array }[] = [];
  #turnMs = 0;

  constructor(deps: IntakeDeps) {
    this.#deps = deps;
  }

  take(res: HttpResponse, req: HttpRequest, bulk: boolean): void {
    const { requests, responder } = this.#deps;
    const length = req.getHeader('content-length');
    let head: Head;
    let apiKey: ApiKeyState | undefined;
    try {
      apiKey = this.#authorize(req);
      // uWebSockets.js refuses a request that has both.
      if (length === '') checkTransferEncoding(req);
      head = readHead(req, bulk);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      responder.refuseAtHead(
        res,
        error,
        error.code === 'unauthorized' ? { headers: [['WWW-Authenticate', 'Bearer']] } : undefined,
      );
      return;
    }
    const declared = Number(length);
    if (declared > this.#deps.bodyMaxBytes) {
      responder.refuseAtHead(res, this.#tooLarge(), { close: declared > SWALLOW_MAX_BYTES });
      return;
    }
    const refusal = this.#deps.admit();
    if (refusal !== undefined) {
      responder.refuseAtHead(res, RequestError.of(refusal));
      return;
    }
    const request = requests.add(res, this.#now(), apiKey);
    res.onAborted(() => this.#aborted(request));
    this.#readBody(res, request, head);
  }

  /** Hands on what waited; called when answers have been passed on, or an encoder has started. */
  pump(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0];
      if (first === undefined) return;
      if (!first.request.closed && !this.#submit(first.request, first.head, first.arrivalUs, first.body)) return;
      this.#waiting.shift();
      if (first.request.closed) this.#deps.requests.remove(first.request);
    }
  }

  #authorize(req: HttpRequest): ApiKeyState | undefined {
    const apiKey = this.#deps.keys.authorize(req, 'write');
    const waitS = apiKey?.waitS() ?? 0;
    if (waitS > 0)
      throw new RequestError('rate_limited', 'this API key has sent more events than its rate', { retryAfterS: waitS });
    return apiKey;
  }

  #readBody(res: HttpResponse, request: PendingRequest, head: Head): void {
    let body: Buffer | undefined;
    let length = 0;
    res.onData((piece, isLast) => {
      // What is left of a body that was refused comes here too, when the request's place may be another's.
      if (request.closed || request.res !== res) return;
      if (length + piece.byteLength > this.#deps.bodyMaxBytes) {
        this.#deps.responder.refuse(request, this.#tooLarge());
        return;
      }
      // The piece is dead when this callback returns: what is not handed on in it is copied.
      if (isLast && length === 0) {
        this.#complete(request, head, new Uint8Array(piece), false);
        return;
      }
      if (piece.byteLength > 0) {
        if (!this.#deps.hasRoom()) {
          this.#deps.responder.refuse(request, this.#deps.overloaded());
          return;
        }
        this.#deps.requests.grow(request, piece.byteLength);
        body = append(body, length, new Uint8Array(piece));
        length += piece.byteLength;
      }
      if (isLast) this.#complete(request, head, body?.subarray(0, length) ?? new Uint8Array(0), true);
    });
  }

  /** `isOwn`: the bytes stay when this returns. */
  #complete(request: PendingRequest, head: Head, body: Uint8Array, isOwn: boolean): void {
    const { encoders, responder } = this.#deps;
    if (encoders.isKiller(body)) {
      const message = 'this body has repeatedly ended the thread that worked on it, and is refused';
      responder.refuse(request, new RequestError('validation_error', message, { details: [{ path: '', message }] }));
      return;
    }
    // The clock of this turn: a body may have taken longer than the tolerance for timestamps.
    this.#now();
    const arrivalUs = this.#clock.next();
    if (request.bodyBytes === 0) this.#deps.requests.grow(request, body.length);
    const isBulk = (head.flags & REQUEST_FLAG.bulk) !== 0;
    const mayWait = isBulk || body.length > INLINE_BODY_MAX_BYTES;
    const isFirst = !mayWait || this.#waiting.length === 0;
    if (isFirst && this.#submit(request, head, arrivalUs, body)) return;
    if (mayWait && this.#deps.hasRoom())
      this.#waiting.push({ request, head, arrivalUs, body: isOwn ? body : body.slice() });
    else responder.refuse(request, this.#deps.overloaded());
  }

  #submit(request: PendingRequest, head: Head, arrivalUs: number, body: Uint8Array): boolean {
    const { number } = request;
    request.encoder = this.#deps.encoders.submit({ number, flags: head.flags, key: head.key, arrivalUs }, body);
    if (request.encoder === undefined) return false;
    request.bulkBytes = (head.flags & REQUEST_FLAG.bulk) === 0 ? 0 : body.length;
    return true;
  }

  /** The client has hung up. What an encoder has already got is counted all the same; nobody is told. */
  #aborted(request: PendingRequest): void {
    if (request.closed) return;
    request.closed = true;
    const waits = this.#waiting.some((waiting) => waiting.request === request);
    if (request.encoder === undefined && !waits) this.#deps.requests.remove(request);
  }

  #tooLarge(): RequestError {
    return new RequestError('payload_too_large', `the body is larger than ${this.#deps.bodyMaxBytes} bytes`);
  }

  /** Ms on the monotonic clock, read once per event-loop turn. */
  #now(): number {
    if (this.#turnMs === 0) {
      this.#turnMs = performance.now();
      this.#clock.refresh();
      setImmediate(() => {
        this.#turnMs = 0;
      });
    }
    return this.#turnMs;
  }
}

function append(body: Buffer | undefined, length: number, piece: Uint8Array): Buffer {
  let target = body;
  if (target === undefined || target.length < length + piece.length) {
    // Grown by what has come, not by what was announced: an announcement costs its sender nothing.
    target = Buffer.allocUnsafe(Math.max(length + piece.length, 2 * length, 64 * 1024));
    if (body !== undefined) body.copy(target, 0, 0, length);
  }
  target.set(piece, length);
  return target;
}

function checkTransferEncoding(req: HttpRequest): void {
  const transfer = req.getHeader('transfer-encoding');
  if (transfer === '' || transfer.toLowerCase() === 'chunked') return;
  throw new RequestError(
    'unsupported_encoding',
    `Transfer-Encoding ${transfer.slice(0, 64)} is not supported: only chunked is`,
  );
}

function readHead(req: HttpRequest, bulk: boolean): Head {
  const flags = encodingFlag(req.getHeader('content-encoding'));
  if (!bulk) return { flags, key: req.getHeader('idempotency-key').slice(0, KEY_MAX_CHARS) };
  const ndjson = NDJSON_TYPES.test(req.getHeader('content-type')) ? REQUEST_FLAG.ndjson : 0;
  const minimal = MINIMAL.test(req.getHeader('prefer')) ? REQUEST_FLAG.minimal : 0;
  return { flags: flags | REQUEST_FLAG.bulk | ndjson | minimal, key: '' };
}

function encodingFlag(header: string): number {
  if (header === '') return 0;
  const name = header.trim().toLowerCase();
  const index = ENCODINGS.indexOf((name === 'x-gzip' ? 'gzip' : name) as BodyEncoding);
  if (index === -1) {
    throw new RequestError('unsupported_encoding', `Content-Encoding ${header.slice(0, 64)} is not supported`);
  }
  return index << ENCODING_SHIFT;
}
