import net from 'node:net';

/**
 * One keep-alive connection with one request at a time: a load producer shares the machine with what it loads, and this
 * costs a third of a general client. Reads only answers with a `Content-Length`.
 */

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  /** Seconds; 0 where the answer has none. */
  readonly retryAfterS: number;
}

/** The request has no answer: it may or may not have been taken. */
export class NoAnswer extends Error {}

const HEAD_END = Buffer.from('\r\n\r\n');
const ANSWER_MS = 60_000;

interface Waiting {
  readonly resolve: (answer: HttpAnswer) => void;
  readonly reject: (error: NoAnswer) => void;
}

export class HttpConnection {
  #socket: net.Socket | undefined;
  #url = '';
  #waiting: Waiting | undefined;
  #received: Buffer[] = [];
  #closeAfter = false;

  /** Connects where there is no connection to `url` yet. Rejects with NoAnswer. */
  request(url: string, path: string, headers: string, body: string | Buffer): Promise<HttpAnswer> {
    if (this.#waiting !== undefined) throw new Error('one request at a time');
    const { hostname, port } = new URL(url);
    if (this.#socket === undefined || this.#url !== url) {
      this.close();
      this.#connect(hostname, Number(port));
      this.#url = url;
    }
    const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
    const head = `POST ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Length: ${length}\r\n${headers}\r\n`;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      if (typeof body === 'string') {
        this.#socket?.write(head + body);
      } else {
        this.#socket?.cork();
        this.#socket?.write(head);
        this.#socket?.write(body);
        this.#socket?.uncork();
      }
    });
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#received = [];
    socket?.destroy();
  }

  #connect(host: string, port: number): void {
    const socket = net.connect({ host, port, noDelay: true });
    this.#socket = socket;
    this.#received = [];
    let reason = 'the connection was closed';
    socket.setTimeout(ANSWER_MS, () => {
      reason = `no answer in ${ANSWER_MS} ms`;
      if (this.#waiting !== undefined) socket.destroy();
    });
    socket.on('error', (error) => {
      reason = error.message;
    });
    socket.on('data', (data) => {
      if (this.#socket === socket) this.#take(data);
    });
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting?.reject(new NoAnswer(reason));
    });
  }

  #take(data: Buffer): void {
    this.#received.push(data);
    const all = this.#received.length === 1 ? data : Buffer.concat(this.#received);
    this.#received = [all];
    const headEnd = all.indexOf(HEAD_END);
    if (headEnd === -1) return;
    const head = all.toString('latin1', 0, headEnd);
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1]);
    if (Number.isNaN(length)) throw new Error(`an answer without Content-Length: ${head}`);
    const bodyStart = headEnd + HEAD_END.length;
    if (all.length < bodyStart + length) return;
    this.#received = [];
    this.#closeAfter = /\r\nconnection: *close/i.test(head);
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (this.#closeAfter) this.close();
    waiting?.resolve({
      status: Number(head.slice(9, 12)),
      body: all.toString('utf8', bodyStart, bodyStart + length),
      retryAfterS: Number(/\r\nretry-after: *(\d+)/i.exec(head)?.[1] ?? 0),
    });
  }
}
