import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * One process per data directory. Each that wants it listens on a Unix socket of its own in the directory, then asks the
 * others': a socket dies with its process, however that dies, and is the same for containers that share the volume.
 * Every process listens before it asks, so of two at least one sees the other; among candidates the lower name wins.
 */

const PREFIX = 'lock.';
const ANSWER_MS = 1_000;
const ROUNDS_MAX = 50;
const ROUND_MS = 50;

interface Identity {
  readonly pid: number;
  readonly startedAt: string;
  readonly held: boolean;
  readonly clickhouse?: ReachableClickHouse;
}

/** The ClickHouse that the holder uses, so that an operator's command reaches the same. Never a secret. */
export interface ReachableClickHouse {
  readonly url: string;
  /** It is the holder's own child, on this machine, and lives as long as the holder. */
  readonly embedded: boolean;
}

/** Who has a data directory. */
export type Holder = Omit<Identity, 'held'>;

/**
 * What a socket says when it is asked: who listens, or nothing (`silent`: stopped, or not to be asked), or that it was closed
 * before it had answered (`leaving`).
 */
type Answer = Identity | 'silent' | 'leaving';

export class DataDirLock {
  readonly #server: net.Server;
  readonly #directory: string;
  readonly #name = `${PREFIX}${process.pid}.${randomBytes(4).toString('hex')}`;
  readonly #startedAt = new Date().toISOString();
  #held = false;
  #clickhouse: ReachableClickHouse | undefined;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#server = net.createServer((socket) => {
      socket.on('error', () => undefined);
      const identity: Identity = {
        pid: process.pid,
        startedAt: this.#startedAt,
        held: this.#held,
        ...(this.#clickhouse && { clickhouse: this.#clickhouse }),
      };
      socket.end(`${JSON.stringify(identity)}\n`);
    });
    this.#server.unref();
  }

  /** Throws an error that names the process which has the directory. */
  static async acquire(directory: string): Promise<DataDirLock> {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const lock = new DataDirLock(directory);
    await lock.#listen();
    try {
      await lock.#contend();
    } catch (error) {
      lock.release();
      throw error;
    }
    return lock;
  }

  /** The living process that has the directory, without wanting it; undefined where none has, or it does not answer. */
  static async holder(directory: string): Promise<Holder | undefined> {
    if (!fs.existsSync(directory)) return undefined;
    for (const name of fs.readdirSync(directory)) {
      if (!name.startsWith(PREFIX)) continue;
      const answer = await ask(directory, name);
      if (typeof answer !== 'string' && answer.held) return answer;
    }
    return undefined;
  }

  /** Tells whoever asks from now on. */
  announce(clickhouse: ReachableClickHouse): void {
    this.#clickhouse = clickhouse;
  }

  release(): void {
    this.#server.close();
    fs.rmSync(path.join(this.#directory, this.#name), { force: true });
  }

  async #listen(): Promise<void> {
    await withShortPath(this.#directory, this.#name, (file) => {
      const { promise, resolve, reject } = withResolvers();
      this.#server.once('error', reject);
      this.#server.listen(file, resolve);
      return promise;
    });
  }

  async #contend(): Promise<void> {
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const rivals = await this.#rivals();
      const holder = rivals.find(({ name, answer }) => hasPrecedence(name, answer, this.#name));
      if (holder !== undefined) throw inUse(this.#directory, holder.answer);
      if (rivals.length === 0) {
        this.#held = true;
        return;
      }
      await sleep(ROUND_MS);
    }
    throw inUse(this.#directory, 'silent');
  }

  /** Other living processes with a socket here; sockets of the dead are removed. */
  async #rivals(): Promise<{ name: string; answer: Answer }[]> {
    const rivals: { name: string; answer: Answer }[] = [];
    for (const name of fs.readdirSync(this.#directory)) {
      if (!name.startsWith(PREFIX) || name === this.#name) continue;
      const answer = await ask(this.#directory, name);
      if (answer === 'dead') fs.rmSync(path.join(this.#directory, name), { force: true });
      else rivals.push({ name, answer });
    }
    return rivals;
  }
}

/** Whether whoever gave this answer has the directory, or has the better claim to it. */
function hasPrecedence(name: string, answer: Answer, ownName: string): boolean {
  // Who is on his way out has lost against somebody, maybe against us: he is asked again, and is then gone.
  if (answer === 'leaving') return false;
  return answer === 'silent' || answer.held || name < ownName;
}

function inUse(directory: string, holder: Answer): Error {
  const who =
    typeof holder === 'string' ? 'another process' : `the process ${holder.pid}, running since ${holder.startedAt}`;
  return new Error(
    `the data directory ${directory} is in use by ${who}: stop it, or give this one its own PENSTOCK_DATA_DIR`,
  );
}

async function ask(directory: string, name: string): Promise<Answer | 'dead'> {
  return withShortPath(directory, name, (file) => {
    const { promise, resolve } = withResolvers<Answer | 'dead'>();
    const socket = net.connect(file);
    let text = '';
    socket.setTimeout(ANSWER_MS, () => resolve('silent'));
    socket.on('data', (data) => {
      text += data.toString();
    });
    socket.on('end', () => resolve(parseIdentity(text)));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve('dead');
      else resolve(code === 'ECONNRESET' || code === 'EPIPE' ? 'leaving' : 'silent');
    });
    return promise.finally(() => socket.destroy());
  });
}

function parseIdentity(text: string): Answer {
  try {
    return JSON.parse(text) as Identity;
  } catch {
    return 'leaving';
  }
}

/** A socket's path has 107 bytes at the most; through the directory's descriptor it is short whatever the directory's is. */
async function withShortPath<T>(directory: string, name: string, use: (file: string) => Promise<T>): Promise<T> {
  const handle = await fs.promises.open(directory, 'r');
  try {
    return await use(`/proc/self/fd/${handle.fd}/${name}`);
  } finally {
    await handle.close();
  }
}

function withResolvers<T = void>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
