/** One run of the child: started, watched until it answers, ended in order. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import type { Logger } from 'pino';

import type { EndOfProcess } from './launch-policy.js';
import { ChildOutput } from './output.js';
import { basicAuthorization, BOOT_PATH, childEnvironment } from './server-config.js';

const CHILD_MODULE = fileURLToPath(new URL('child.js', import.meta.url));
const READY_POLL_MS = 10;
/** Loading many parts from a slow disk takes its time; beyond this the child hangs. */
const READY_TIMEOUT_MS = 600_000;
const STILL_STARTING_MS = 10_000;
const PROBE_TIMEOUT_MS = 5_000;
/** An orderly end takes 50 ms, and some seconds while connections are open. */
const STOP_GRACE_MS = 8_000;

export interface ServerProcessOptions {
  readonly configPath: string;
  readonly dataPath: string;
  readonly libraryPath: string;
  readonly cwd: string;
  readonly httpPort: number;
  readonly user: string;
  readonly password: string;
  readonly log: Logger;
}

export class ServerProcess {
  readonly #options: ServerProcessOptions;
  readonly #bootToken = randomBytes(16).toString('hex');
  readonly #child: ChildProcess;
  readonly #output: ChildOutput;
  #hasEnded = false;
  #stopping: Promise<void> | undefined;
  /** Never rejects. */
  readonly ended: Promise<EndOfProcess>;

  constructor(options: ServerProcessOptions) {
    this.#options = options;
    const authorization = basicAuthorization(options.user, options.password);
    const output = new ChildOutput(options.log, [options.password, authorization.slice('Basic '.length)]);
    const child = spawn(process.execPath, [CHILD_MODULE, options.configPath, options.dataPath, options.libraryPath], {
      cwd: options.cwd,
      // Nothing of our own environment, which has credentials that are none of the child's business.
      env: childEnvironment({ ...options, bootToken: this.#bootToken }),
      stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
    });
    this.#child = child;
    // It may be gone when the pipe is closed; its end is told by 'close'.
    child.stdin?.on('error', () => undefined);
    this.#output = output;
    if (child.stdout !== null) output.follow(child.stdout);
    if (child.stderr !== null) output.follow(child.stderr);
    this.ended = new Promise((resolve) => {
      const settle = (end: Omit<EndOfProcess, 'tail'>, ...more: string[]): void => {
        this.#hasEnded = true;
        resolve({ ...end, tail: [...output.tail, ...more] });
      };
      child.once('error', (error) => settle({ code: null, signal: null }, String(error)));
      child.once('close', (code, signal) => settle({ code, signal }));
    });
  }

  get pid(): number | undefined {
    return this.#hasEnded ? undefined : this.#child.pid;
  }

  /** Resolves with true when the server answers, with false when the process has ended before. */
  async ready(): Promise<boolean> {
    const startMs = performance.now();
    let saidMs = startMs;
    while (!this.#hasEnded) {
      if (await Promise.race([this.#isOurs(), this.ended.then(() => false)])) {
        this.#output.nowComplain();
        return true;
      }
      const nowMs = performance.now();
      if (nowMs - startMs > READY_TIMEOUT_MS) this.#child.kill('SIGKILL');
      if (nowMs - saidMs > STILL_STARTING_MS) {
        saidMs = nowMs;
        this.#options.log.warn({ elapsedMs: Math.round(nowMs - startMs) }, 'embedded ClickHouse: still starting');
      }
      await Promise.race([pause(READY_POLL_MS), this.ended]);
    }
    return false;
  }

  /** Closes the pipe that the child waits on; kills it if that does not end it. Resolves when it is gone. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#child.stdin?.end();
    const timeout = new AbortController();
    const late = pause(STOP_GRACE_MS, true, { signal: timeout.signal }).catch(() => false);
    if (await Promise.race([late, this.ended.then(() => false)])) {
      this.#options.log.warn({ afterMs: STOP_GRACE_MS }, 'embedded ClickHouse does not end: killing it');
      this.#child.kill('SIGKILL');
    }
    timeout.abort();
    await this.ended;
  }

  /** Whether the port is answered by this child. */
  async #isOurs(): Promise<boolean> {
    try {
      const answer = await ask(this.#options.httpPort, BOOT_PATH);
      return answer.status === 200 && answer.body === this.#bootToken;
    } catch {
      return false;
    }
  }
}

/** One HTTP request without keep-alive: an idle connection of ours would make the child's end slow. */
export async function ask(
  port: number,
  path: string,
  query?: { readonly sql: string; readonly authorization: string },
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: '127.0.0.1',
        port,
        path,
        agent: false,
        method: query === undefined ? 'GET' : 'POST',
        headers: query === undefined ? {} : { authorization: query.authorization },
        timeout: PROBE_TIMEOUT_MS,
      },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (body = (body + chunk).slice(0, 10_000)));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
        response.on('error', reject);
      },
    );
    call.on('timeout', () => call.destroy(new Error('no answer in time')));
    call.on('error', reject);
    call.end(query?.sql);
  });
}
