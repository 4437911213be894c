/**
 * One keep-alive connection with one request at a time, made for load: a general HTTP client costs about twice the CPU a
 * request (bench/clients.js measures it), and on the same machine that CPU is taken from what is measured. Writes ready
 * bytes, reads into one buffer that all connections of a thread share, and looks only at the status, the length,
 * `Retry-After` and how many events a bulk answer took.
 */
import net from 'node:net';

const HEAD_END = Buffer.from('\r\n\r\n');
/** Of a bulk answer's body, what shows how many were accepted. */
const BODY_START_BYTES = 64;
const shared = Buffer.alloc(256 * 1024);

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {number} accepted events that a bulk answer took; NaN where it does not say
 * @property {number} retryAfterS 0 where the answer has none
 * @property {string} start the body's first bytes, of an answer that is not a 202
 */

export class Connection {
  #socket;
  #target;
  #onAnswer;
  #onLost;
  /** A head that came in pieces. */
  #partial;
  #bodyLeft = 0;
  #answer = { status: 0, accepted: Number.NaN, retryAfterS: 0, start: '' };
  #waiting = false;
  #closes = false;

  /**
   * @param {{ hostname: string, port: number }} target
   * @param {(answer: Answer) => void} onAnswer may send the next request
   * @param {(why: string) => void} onLost the request has no answer; the next `send` connects again
   */
  constructor(target, onAnswer, onLost) {
    this.#target = target;
    this.#onAnswer = onAnswer;
    this.#onLost = onLost;
  }

  /** Resolves when connected; rejects with the reason. */
  open() {
    return new Promise((resolve, reject) => {
      this.#connect();
      this.#socket.once('connect', resolve);
      this.#socket.once('error', reject);
    });
  }

  send(bytes) {
    if (this.#socket === undefined) this.#connect();
    this.#waiting = true;
    this.#socket.write(bytes);
  }

  close() {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#waiting = false;
    socket?.destroy();
  }

  #connect() {
    const onread = { buffer: shared, callback: (length, data) => this.#take(data.subarray(0, length)) };
    const socket = net.connect({ host: this.#target.hostname, port: this.#target.port, noDelay: true, onread });
    this.#socket = socket;
    this.#partial = undefined;
    this.#bodyLeft = 0;
    let why = 'closed by the service';
    socket.on('error', (error) => {
      why = error.code ?? error.message;
    });
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      if (!this.#waiting) return;
      this.#waiting = false;
      this.#onLost(why);
    });
  }

  #take(data) {
    if (this.#bodyLeft > 0) {
      this.#bodyLeft -= data.length;
      if (this.#bodyLeft <= 0) this.#done();
      return true;
    }
    const all = this.#partial === undefined ? data : Buffer.concat([this.#partial, data]);
    const headEnd = all.indexOf(HEAD_END);
    const bodyStart = headEnd + HEAD_END.length;
    const length = headEnd === -1 ? 0 : this.#readHead(all.latin1Slice(0, headEnd));
    if (headEnd === -1 || all.length < bodyStart + Math.min(length, BODY_START_BYTES)) {
      this.#partial = Buffer.from(all);
      return true;
    }
    this.#partial = undefined;
    this.#readBodyStart(all, bodyStart);
    this.#bodyLeft = bodyStart + length - all.length;
    if (this.#bodyLeft <= 0) this.#done();
    return true;
  }

  /** @returns the body's length */
  #readHead(head) {
    const answer = this.#answer;
    answer.status = Number(head.slice(9, 12));
    const lengthAt = headerValueAt(head, 'Content-Length: ', 'content-length: ');
    if (lengthAt === -1) throw new Error(`an answer without Content-Length:\n${head}`);
    answer.retryAfterS = 0;
    if (answer.status !== 202) answer.retryAfterS = Number(/\r\nretry-after: *(\d+)/i.exec(head)?.[1] ?? 0);
    this.#closes = head.includes('onnection: close');
    return Number.parseInt(head.slice(lengthAt, lengthAt + 12), 10);
  }

  #readBodyStart(all, at) {
    const answer = this.#answer;
    answer.accepted = Number.NaN;
    answer.start = '';
    if (answer.status !== 202) {
      answer.start = all.toString('utf8', at, Math.min(all.length, at + 300));
    } else if (all.indexOf('{"accepted":', at, 'latin1') === at) {
      answer.accepted = Number.parseInt(all.latin1Slice(at + 12, Math.min(all.length, at + 24)), 10);
    }
  }

  #done() {
    this.#waiting = false;
    this.#bodyLeft = 0;
    if (this.#closes) this.close();
    this.#onAnswer(this.#answer);
  }
}

function headerValueAt(head, asUws, asNode) {
  const at = head.indexOf(asUws);
  if (at !== -1) return at + asUws.length;
  const other = head.indexOf(asNode);
  return other === -1 ? -1 : other + asNode.length;
}
