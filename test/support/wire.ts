import { once } from 'node:events';
import net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';

/** HTTP/1.1 by hand: requests as bytes, in whatever pieces, and answers as they come, for what no client would send. */

export interface WireAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

export class Wire {
  readonly #socket: net.Socket;
  #received = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (data) => {
      this.#received = Buffer.concat([this.#received, data]);
      this.#wake();
    });
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
    // Whoever waits for an answer sees the end.
    socket.on('error', () => undefined);
  }

  static async connect(url: string): Promise<Wire> {
    const { hostname, port } = new URL(url);
    const socket = net.connect(Number(port), hostname);
    await once(socket, 'connect');
    return new Wire(socket);
  }

  /** True once the other side has closed the connection. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes that came and were not read as an answer. */
  get unread(): Buffer {
    return this.#received;
  }

  write(data: string | Uint8Array): void {
    this.#socket.write(data);
  }

  /** Writes in pieces of `size` bytes, each in a turn of its own. */
  async writeInPieces(data: Uint8Array, size: number): Promise<void> {
    for (let at = 0; at < data.length; at += size) {
      this.#socket.write(data.subarray(at, at + size));
      await turn();
    }
  }

  /** Stops reading: what the other side sends stays in the buffers of the system, then in its own. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Reads for one turn of the event loop. */
  async sip(): Promise<void> {
    this.#socket.resume();
    await turn();
    this.#socket.pause();
  }

  /** Hangs up without a farewell. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** Hangs up with a reset. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    this.#socket.destroy();
    await once(this.#socket, 'close');
  }

  /** The next answer; `bodiless` for one to a HEAD request. Rejects where the connection ends before it is complete. */
  async answer({ bodiless = false } = {}): Promise<WireAnswer> {
    for (;;) {
      const parsed = parseAnswer(this.#received, bodiless);
      if (parsed !== undefined) {
        this.#received = this.#received.subarray(parsed.length);
        return parsed.answer;
      }
      if (this.#ended) {
        throw new Error(
          `the connection ended inside an answer: ${JSON.stringify(this.#received.toString('latin1', 0, 200))}`,
        );
      }
      await this.#change();
    }
  }

  async untilEnded(): Promise<void> {
    while (!this.#ended) await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

function parseAnswer(received: Buffer, bodiless: boolean): { answer: WireAnswer; length: number } | undefined {
  const headEnd = received.indexOf('\r\n\r\n');
  if (headEnd === -1) return undefined;
  const [statusLine = '', ...lines] = received.toString('latin1', 0, headEnd).split('\r\n');
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  const bodyStart = headEnd + 4;
  const length = bodiless ? 0 : Number(headers.get('content-length') ?? 0);
  if (received.length < bodyStart + length) return undefined;
  const answer = {
    status: Number(statusLine.split(' ')[1]),
    headers,
    body: received.subarray(bodyStart, bodyStart + length),
  };
  return { answer, length: bodyStart + length };
}

/** A request's bytes; `Content-Length` is added where a body is given and no header says how long it is. */
export function requestBytes(
  method: string,
  path: string,
  { headers = {}, body }: { headers?: Readonly<Record<string, string>>; body?: string | Uint8Array } = {},
): Buffer {
  const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(body);
  const lines = [`${method} ${path} HTTP/1.1`, 'Host: localhost'];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  if (body !== undefined && !names.includes('content-length') && !names.includes('transfer-encoding')) {
    lines.push(`Content-Length: ${bytes.length}`);
  }
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), bytes]);
}

/** A body in the chunked transfer coding, in chunks of `size` bytes. */
export function chunked(body: string | Uint8Array, size: number): Buffer {
  const bytes = Buffer.from(body);
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const piece = bytes.subarray(at, at + size);
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  parts.push(Buffer.from('0\r\n\r\n'));
  return Buffer.concat(parts);
}
