/**
 * What the child prints, taken into our log. Bounded in every direction: a line is cut, the tail that errors quote is a
 * few lines, and a burst is counted rather than logged. Credentials are blanked out should they ever be in it.
 */
import type { Logger } from 'pino';

const LINE_MAX_CHARS = 1_000;
const TAIL_LINES = 20;
/** Blanking out something shorter would only mutilate the words that it is part of. */
const SECRET_MIN_CHARS = 4;
const WINDOW_MS = 10_000;
const WINDOW_LINES = 50;

export class ChildOutput {
  readonly #log: Logger;
  readonly #secrets: readonly string[];
  readonly #tail: string[] = [];
  #windowStartMs = -Infinity;
  #windowLines = 0;
  #leftOut = 0;
  #mayComplain = false;

  constructor(log: Logger, secrets: readonly string[]) {
    this.#log = log;
    this.#secrets = secrets.filter((secret) => secret.length >= SECRET_MIN_CHARS);
  }

  /** The last lines printed, oldest first, without stack frames. */
  get tail(): readonly string[] {
    return this.#tail;
  }

  /** Until then all goes to debug: whoever waits for the start is told how it ended, once, with the tail. */
  nowComplain(): void {
    this.#mayComplain = true;
  }

  /** Consumes a stream of the child's to its end. */
  follow(stream: NodeJS.ReadableStream): void {
    let partial = '';
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      const lines = (partial + chunk).split('\n');
      // What is beyond the limit would be cut anyway: a line without an end must not grow.
      partial = (lines.pop() ?? '').slice(0, 2 * LINE_MAX_CHARS);
      for (const line of lines) this.#take(line);
    });
    stream.on('end', () => this.#take(partial));
    stream.on('error', (error: Error) => this.#log.debug({ err: error }, 'embedded ClickHouse: output lost'));
  }

  #take(raw: string): void {
    let line = raw;
    // Before the cut, which could leave a part of a secret that would no longer be recognised.
    for (const secret of this.#secrets) line = line.replaceAll(secret, '[hidden]');
    line = line.slice(0, LINE_MAX_CHARS).trimEnd();
    if (line === '') return;
    if (isStackFrame(line)) return;
    this.#tail.push(line);
    if (this.#tail.length > TAIL_LINES) this.#tail.shift();
    this.#relay(line);
  }

  #relay(line: string): void {
    const nowMs = performance.now();
    if (nowMs - this.#windowStartMs > WINDOW_MS) {
      if (this.#leftOut > 0) this.#log.warn({ lines: this.#leftOut }, 'embedded ClickHouse: output left out');
      this.#windowStartMs = nowMs;
      this.#windowLines = 0;
      this.#leftOut = 0;
    }
    if (++this.#windowLines > WINDOW_LINES) {
      this.#leftOut++;
      return;
    }
    const bindings = { clickhouse: line };
    if (this.#mayComplain && isComplaint(line)) this.#log.warn(bindings, 'embedded ClickHouse says');
    else this.#log.debug(bindings, 'embedded ClickHouse says');
  }
}

/** ClickHouse's own level tag, or an exception printed without one. */
function isComplaint(line: string): boolean {
  return /<(?:Fatal|Critical|Error|Warning)>/.test(line) || /^Code: \d+\./.test(line);
}

/** `17. start_thread @ 0x00000000000891f5`: symbols are stripped, so these tell nobody anything. */
function isStackFrame(line: string): boolean {
  return /^\d+\. .* @ 0x[0-9a-f]+$/.test(line);
}
