import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ClickHouseClient } from '@clickhouse/client';
import { createClickHouse } from '../../src/shared/clickhouse/client.js';

/** Penstock as its users run it: the command in a process of its own, on the embedded ClickHouse and free ports. */

export const LAUNCHER = fileURLToPath(new URL('../../../bin/penstock', import.meta.url));
const COMMAND = fileURLToPath(new URL('../../src/cli/penstock.js', import.meta.url));
export const CLICKHOUSE_USER = 'default';
export const CLICKHOUSE_PASSWORD = 'for-tests-only';
const START_MS = 60_000;

export interface LogLine {
  readonly level: string;
  readonly msg?: string;
  readonly [member: string]: unknown;
}

export interface ServiceOptions {
  /** Made, and removed by `dispose`, where absent. */
  readonly dataDir?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** Arguments for node itself. */
  readonly nodeArgs?: readonly string[];
}

export class Service {
  readonly dataDir: string;
  readonly url: string;
  readonly adminUrl: string;
  readonly clickhouseUrl: string;
  /** Every line of standard output so far. */
  readonly lines: readonly LogLine[];
  readonly #child: ChildProcess;
  readonly #ownsDataDir: boolean;
  readonly #exit: Promise<number | NodeJS.Signals>;

  private constructor(
    child: ChildProcess,
    dataDir: string,
    ownsDataDir: boolean,
    lines: readonly LogLine[],
    listening: LogLine,
  ) {
    this.#child = child;
    this.dataDir = dataDir;
    this.#ownsDataDir = ownsDataDir;
    this.lines = lines;
    this.url = String(listening['url']);
    this.adminUrl = String(listening['adminUrl']);
    this.clickhouseUrl = String(listening['clickhouseUrl']);
    this.#exit = exitOf(child);
  }

  /** Resolves when the `listening` line is there; rejects with the output where the process ends before. */
  static async start({ dataDir, env = {}, args = [], nodeArgs = [] }: ServiceOptions = {}): Promise<Service> {
    const directory = dataDir ?? temporaryDirectory();
    const child = spawn(process.execPath, [...nodeArgs, COMMAND, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...withoutPenstock(process.env),
        PENSTOCK_DATA_DIR: directory,
        PENSTOCK_PORT: '0',
        PENSTOCK_ADMIN_PORT: '0',
        PENSTOCK_CLICKHOUSE_USER: CLICKHOUSE_USER,
        PENSTOCK_CLICKHOUSE_PASSWORD: CLICKHOUSE_PASSWORD,
        PENSTOCK_FLUSH_INTERVAL_MS: '100',
        ...env,
      },
    });
    const lines: LogLine[] = [];
    let stderr = '';
    child.stderr.on('data', (data) => {
      stderr += String(data);
    });
    const listening = new Promise<LogLine>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (text) => {
        const line = parseLine(text);
        lines.push(line);
        if (line.msg === 'listening') resolve(line);
      });
    });
    const ended = once(child, 'exit').then(() => 'ended' as const);
    const first = await Promise.race([listening, ended, sleep(START_MS, 'late' as const, { ref: false })]);
    if (typeof first === 'string') {
      child.kill('SIGKILL');
      throw new Error(
        `the service did not start (${first}):\n${lines.map((line) => JSON.stringify(line)).join('\n')}\n${stderr}`,
      );
    }
    return new Service(child, directory, dataDir === undefined, lines, first);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves with the exit code, or the signal that ended it. */
  get exited(): Promise<number | NodeJS.Signals> {
    return this.#exit;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** `kill -9`, and waits until it is gone. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#exit;
  }

  /** SIGTERM; resolves with the exit code. */
  async stop(): Promise<number | NodeJS.Signals> {
    this.signal('SIGTERM');
    return this.#exit;
  }

  /** Ends the process where it runs, and removes a directory that `start` made. */
  async dispose(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.kill();
    if (this.#ownsDataDir) await removeDirectory(this.dataDir);
  }

  /** A client for the ClickHouse that the service uses. The caller closes it. */
  clickhouse(): ClickHouseClient {
    return createClickHouse({
      url: this.clickhouseUrl,
      user: CLICKHOUSE_USER,
      password: CLICKHOUSE_PASSWORD,
      requestTimeoutMs: 30_000,
      maxOpenConnections: 4,
    });
  }

  /** Waits until ClickHouse has everything that was acknowledged: `as_of` has passed this moment. */
  async settled(deadlineMs = 60_000): Promise<void> {
    const from = Date.now() / 1000;
    await until(
      async () => {
        const response = await fetch(`${this.url}/metrics?event_name=*`);
        const body = (await response.json()) as { as_of?: number };
        return response.status === 200 && (body.as_of ?? 0) >= from;
      },
      'as_of passes what was acknowledged',
      deadlineMs,
    );
  }
}

export function temporaryDirectory(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'penstock-test-'));
}

/** An embedded ClickHouse whose parent was killed may still be writing its last files. */
export async function removeDirectory(directory: string): Promise<void> {
  await fs.promises.rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}

/** Polls a condition until it holds; an error says what was waited for. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  deadlineMs = 30_000,
): Promise<void> {
  const from = performance.now();
  while (!(await condition())) {
    if (performance.now() - from > deadlineMs) throw new Error(`waited ${deadlineMs} ms in vain until ${what}`);
    await sleep(20);
  }
}

function withoutPenstock(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('PENSTOCK_') && name !== 'PORT'));
}

function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return { level: 'none', msg: text };
  }
}

async function exitOf(child: ChildProcess): Promise<number | NodeJS.Signals> {
  if (child.exitCode !== null) return child.exitCode;
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return code ?? signal ?? 0;
}
