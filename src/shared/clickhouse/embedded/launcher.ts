/**
 * The embedded ClickHouse, for those who have no other: a real server in a child process, on 127.0.0.1 alone, spoken to
 * over HTTP like any other ClickHouse.
 *
 * Invariants:
 * - url, user and password stay the same from start to stop, however often the child is restarted.
 * - A crash of the child is never an end: it is logged and restarted, with growing pauses, until stop().
 * - No child outlives this process (child.ts), and none is left by stop().
 */
import { availableParallelism, totalmem } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';

import type { Logger } from 'pino';

import { freePort, type Home, keptPassword, notedOwner, prepareHome, writePrivate } from './home.js';
import {
  afterFailedFirstStart,
  classifyFailure,
  type EndOfProcess,
  restartDelayMs,
  STABLE_MS,
  startFailureMessage,
} from './launch-policy.js';
import { locateLibrary, thisHost } from './library.js';
import { basicAuthorization, credentialProblem, renderServerConfig, renderUsersConfig } from './server-config.js';
import { ask, ServerProcess } from './server-process.js';

export interface EmbeddedOptions {
  /** PENSTOCK_DATA_DIR; the server lives in `<dataDir>/clickhouse/`. */
  readonly dataDir: string;
  readonly user: string;
  /** undefined or empty: made at the first start, kept in a file of mode 0600 under dataDir, and reused. */
  readonly password: string | undefined;
  /** Created if it is not there. */
  readonly database: string;
  readonly log: Logger;
}

export interface EmbeddedClickHouse {
  /** http://127.0.0.1:PORT, the same over restarts of the child. */
  readonly url: string;
  readonly user: string;
  readonly password: string;
  /** The current child; undefined between a crash and the restart. */
  readonly pid: number | undefined;
  /** Orderly and bounded; kills the child if it does not end. Close the clients first: open connections delay it. */
  stop(): Promise<void>;
}

/** Resolves when the server answers queries. Throws an error that says what to do where it cannot be started. */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedClickHouse> {
  const libraryPath = locateLibrary(thisHost());
  const home = await prepareHome(options.dataDir);
  const password =
    options.password === undefined || options.password === ''
      ? await keptPassword(home.passwordPath)
      : options.password;
  const problem = credentialProblem(options.user, password);
  if (problem !== undefined) throw new Error(problem);
  const supervisor = new Supervisor({ ...options, password, home, libraryPath, httpPort: await freePort() });
  await supervisor.start();
  return supervisor;
}

interface SupervisorOptions {
  readonly home: Home;
  readonly libraryPath: string;
  readonly httpPort: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly log: Logger;
}

class Supervisor implements EmbeddedClickHouse {
  readonly #options: SupervisorOptions;
  readonly #log: Logger;
  readonly #stopSignal = new AbortController();
  #httpPort: number;
  #process: ServerProcess | undefined;
  #watching: Promise<void> = Promise.resolve();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#httpPort = options.httpPort;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#httpPort}`;
  }

  get user(): string {
    return this.#options.user;
  }

  get password(): string {
    return this.#options.password;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** The first start: waits for what passes by itself, throws otherwise. */
  async start(): Promise<void> {
    const { home } = this.#options;
    const startMs = performance.now();
    let saidInUse = false;
    for (let portsTried = 1; ;) {
      const end = await this.#launch();
      if (end === undefined) break;
      const kind = classifyFailure(end.tail);
      const next = afterFailedFirstStart(kind, { elapsedMs: performance.now() - startMs, portsTried });
      if (next.step === 'give_up') {
        throw new Error(startFailureMessage(kind, end, home.dataPath, await notedOwner(home)));
      }
      if (kind === 'directory_in_use' && !saidInUse) {
        saidInUse = true;
        this.#log.warn(
          { path: home.dataPath, ownerPid: await notedOwner(home) },
          'embedded ClickHouse: another process still has the directory (an earlier one that is shutting down?): waiting for it',
        );
      }
      if (next.newPort) {
        portsTried++;
        this.#httpPort = await freePort();
      }
      await pause(next.afterMs);
    }
    try {
      await this.#createDatabase();
    } catch (error) {
      await this.#process?.stop();
      throw error;
    }
    this.#log.info(
      { url: this.url, childPid: this.pid, elapsedMs: Math.round(performance.now() - startMs) },
      'embedded ClickHouse is up',
    );
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopSignal.abort();
    // A child that is just being started is caught by #launch, which looks at the signal after the spawn.
    await this.#process?.stop();
    await this.#watching;
  }

  get #stopped(): boolean {
    return this.#stopSignal.signal.aborted;
  }

  /** Restarts the child whenever it ends. Never rejects. */
  async #watch(): Promise<void> {
    let failures = 0;
    let end = await this.#process?.ended;
    let upSinceMs = performance.now();
    while (!this.#stopped) {
      if (performance.now() - upSinceMs > STABLE_MS) failures = 0;
      failures++;
      const delayMs = restartDelayMs(failures);
      this.#log.error({ ...end, failures, delayMs }, 'embedded ClickHouse ended by itself: restarting it');
      await pause(delayMs, undefined, { signal: this.#stopSignal.signal }).catch(() => undefined);
      if (this.#stopped) return;
      upSinceMs = performance.now();
      try {
        end = await this.#launch();
        if (end !== undefined) continue;
        this.#log.info({ url: this.url, childPid: this.pid }, 'embedded ClickHouse is up again');
        end = await this.#process?.ended;
      } catch (error) {
        end = { code: null, signal: null, tail: [String(error)] };
      }
    }
  }

  /** Runs the child until it is ready (undefined) or has ended. */
  async #launch(): Promise<EndOfProcess | undefined> {
    const { home, libraryPath, user, password, log } = this.#options;
    await writePrivate(home.usersPath, renderUsersConfig(user, password));
    const config = renderServerConfig({
      dataPath: home.dataPath,
      usersPath: home.usersPath,
      cores: availableParallelism(),
      memoryBytes: usableMemoryBytes(),
      user,
    });
    await writePrivate(home.configPath, config);
    const { configPath, dataPath, path: cwd } = home;
    this.#process = new ServerProcess({
      configPath,
      dataPath,
      libraryPath,
      cwd,
      httpPort: this.#httpPort,
      user,
      password,
      log,
    });
    if (this.#stopped) await this.#process.stop();
    return (await this.#process.ready()) ? undefined : this.#process.ended;
  }

  async #createDatabase(): Promise<void> {
    const answer = await ask(this.#httpPort, '/', {
      sql: `CREATE DATABASE IF NOT EXISTS ${quoteIdentifier(this.#options.database)}`,
      authorization: basicAuthorization(this.user, this.password),
    });
    if (answer.status !== 200) {
      throw new Error(`The embedded ClickHouse cannot create the database ${this.#options.database}: ${answer.body}`);
    }
  }
}

/** The machine's memory, or the container's limit where there is one. */
function usableMemoryBytes(): number {
  // 0 or an absurdly large number where nothing limits it.
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

function quoteIdentifier(name: string): string {
  return `\`${name.replace(/[\\`]/g, '\\$&')}\``;
}
