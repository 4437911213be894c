import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A misbehaving way to ClickHouse. Strikes at the INSERTs into one table, each of them (by its token) so many times; everything
 * else passes.
 */

export const MISDEEDS = [
  'answers 500',
  'resets before the body',
  'resets in the middle of the body',
  'resets after the body, before the answer',
  'cuts its answer off',
  'is slow',
] as const;
export type Misdeed = (typeof MISDEEDS)[number];

const SLOW_MS = 30;
/** Pieces that a slow body is sent in. */
const SLOW_PIECES = 12;

export class FaultProxy {
  readonly #target: URL;
  readonly #agent = new http.Agent({ keepAlive: true });
  readonly #sockets = new Set<Socket>();
  readonly #struck = new Map<string, number>();
  #server: http.Server | undefined;
  #port = 0;
  misdeed: Misdeed | undefined;
  /** How often an INSERT of one token is struck before it passes. */
  times = 1;
  strikes = 0;
  /** Requests that this says true to are never passed on nor answered. */
  hold: (query: string, body: string) => boolean = () => false;
  onHold: () => void = () => undefined;

  private constructor(target: string) {
    this.#target = new URL(target);
  }

  static async to(target: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(target);
    await proxy.open();
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens, always on the same port. */
  async open(): Promise<void> {
    const server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      // An error ends one request, as the network would.
      this.#pass(request, response).catch(() => response.destroy());
    });
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#server = server;
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Refuses connections and resets those that are there: ClickHouse is down. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await once(server, 'close');
    this.#agent.destroy();
  }

  async #pass(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const { searchParams } = new URL(request.url ?? '/', this.#target);
    const query = searchParams.get('query') ?? '';
    const misdeed = this.#strikesAt(query, searchParams.get('insert_deduplication_token') ?? '');
    if (misdeed === 'resets before the body') {
      request.socket.resetAndDestroy();
      return;
    }
    const body = await bodyOf(request);
    if (this.hold(query, body.toString())) {
      this.onHold();
      return;
    }
    if (misdeed === 'answers 500') {
      response.writeHead(500, { 'content-type': 'text/plain' }).end('the proxy has no idea');
      return;
    }
    if (misdeed === 'resets in the middle of the body') {
      this.#forward(request)
        .on('error', () => undefined)
        .write(body.subarray(0, body.length / 2));
      await sleep(SLOW_MS);
      request.socket.resetAndDestroy();
      this.#agent.destroy();
      return;
    }
    const upstream = this.#forward(request);
    if (misdeed === 'is slow') await dribble(upstream, body);
    else upstream.end(body);
    const [answer] = (await once(upstream, 'response')) as [http.IncomingMessage];
    const content = await bodyOf(answer);
    if (misdeed === 'resets after the body, before the answer') {
      request.socket.resetAndDestroy();
      return;
    }
    if (misdeed === 'is slow') await sleep(SLOW_MS * SLOW_PIECES);
    const { 'transfer-encoding': _, 'content-length': __, connection: ___, ...headers } = answer.headers;
    response.writeHead(answer.statusCode ?? 502, { ...headers, 'transfer-encoding': 'chunked' });
    if (misdeed === 'cuts its answer off') {
      response.flushHeaders();
      await sleep(SLOW_MS);
      request.socket.resetAndDestroy();
      return;
    }
    response.end(content);
  }

  #forward(request: http.IncomingMessage): http.ClientRequest {
    const { host: _, connection: __, 'content-length': ___, 'transfer-encoding': ____, ...headers } = request.headers;
    const { hostname, port } = this.#target;
    const forwarded = http.request({
      hostname,
      port,
      path: request.url,
      method: request.method,
      headers,
      agent: this.#agent,
    });
    forwarded.setHeader('transfer-encoding', 'chunked');
    return forwarded;
  }

  #strikesAt(query: string, token: string): Misdeed | undefined {
    if (this.misdeed === undefined || !/^INSERT INTO \S*events`? /.test(query)) return undefined;
    const before = this.#struck.get(token) ?? 0;
    if (before >= this.times) return undefined;
    this.#struck.set(token, before + 1);
    this.strikes += 1;
    return this.misdeed;
  }
}

async function bodyOf(message: http.IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

async function dribble(upstream: http.ClientRequest, body: Buffer): Promise<void> {
  const step = Math.ceil(body.length / SLOW_PIECES);
  for (let at = 0; at < body.length; at += step) {
    upstream.write(body.subarray(at, at + step));
    await sleep(SLOW_MS);
  }
  upstream.end();
}
