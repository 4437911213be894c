import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { ClickHouseClient } from '@clickhouse/client';
import { DataDirLock } from '../../main/data-dir-lock.js';
import { daysToRebuild, type Erased, forgetUsers, hasRows } from '../../shared/clickhouse/forget.js';
import type { Config } from '../../shared/config.js';
import { EVENT_LIMITS } from '../../shared/limits.js';
import { FORGOTTEN_REFRESH_MS } from '../../shared/forgotten-users.js';
import { sipHash128 } from '../../shared/sip-hash.js';
import { bringSchema, commandLog, withClickHouse } from '../clickhouse-access.js';
import { count, EXIT_FINDING, EXIT_WELL, print, printJson, Progress, UsageError } from '../console.js';
import type { ForgetRequest } from '../operator-commands.js';
import { LocalFiles } from './local-files.js';

/**
 * `penstock forget`: users out of ClickHouse (forget.ts has the order of things), out of this data directory, and kept out. Never
 * says an id: neither to standard output and error nor to ClickHouse.
 *
 * Beside a running instance, it waits until that one refuses them and its log has shipped what it had taken before, then looks
 * once more. The log of an instance that does not run is shipped by its next start; what comes of it is deleted afterwards.
 */

const POLL_MS = 250;
/** An instance has read the list by then, and what it had accepted before is in a segment. */
const REFUSED_AFTER_MS = FORGOTTEN_REFRESH_MS + 2_000;

interface Outcome {
  readonly users: number;
  /** Raw rows in ClickHouse, repetitions included. */
  rows: number;
  deadLetters: number;
  keptSegments: number;
  /** Days of event names that are to be rebuilt without them, and how many of these are not yet. */
  days: number;
  daysLeft: number;
  /** Segments that are not shipped and have rows of them. */
  pendingSegments: number;
  /** Files set aside that may have something of them. */
  setAside: readonly string[];
}

export async function forget({ userIds, wait, json }: ForgetRequest, config: Config): Promise<number> {
  const users = [...new Set(userIds)].map((id) => {
    const bytes = Buffer.from(id);
    if (bytes.length === 0 || bytes.length > EVENT_LIMITS.userIdMaxBytes) {
      throw new UsageError(`--user-id: expected 1–${EVENT_LIMITS.userIdMaxBytes} bytes`);
    }
    return { hash: sipHash128(bytes).toString('hex').toUpperCase(), crc32: crc32(bytes) };
  });
  const isRunning = (await DataDirLock.holder(config.dataDir)) !== undefined;
  // Somebody must be there to rebuild: with a ClickHouse of its own, an instance that does not run is alone.
  const isWaiting = wait && (isRunning || config.clickhouseUrl !== undefined);
  const files = new LocalFiles(config.dataDir, userIds);
  const outcome = await withClickHouse(config, commandLog(config), async (client) => {
    await bringSchema(client, config.clickhouseDatabase, commandLog(config));
    return new Forgetting(client, config.clickhouseDatabase, users, files).run({ isRunning, isWaiting });
  });
  if (json) await printJson(outcome);
  else await print(textOf(outcome, isRunning));
  return outcome.pendingSegments + outcome.setAside.length > 0 ? EXIT_FINDING : EXIT_WELL;
}

class Forgetting {
  readonly #client: ClickHouseClient;
  readonly #database: string;
  readonly #users: readonly { readonly hash: string; readonly crc32: number }[];
  readonly #files: LocalFiles;
  readonly #progress = new Progress();
  readonly #erased: Erased[] = [];

  constructor(
    client: ClickHouseClient,
    database: string,
    users: readonly { readonly hash: string; readonly crc32: number }[],
    files: LocalFiles,
  ) {
    this.#client = client;
    this.#database = database;
    this.#users = users;
    this.#files = files;
  }

  async run({ isRunning, isWaiting }: { isRunning: boolean; isWaiting: boolean }): Promise<Outcome> {
    const listedAfter = performance.now();
    await this.#erase();
    if (isRunning && isWaiting) {
      await this.#until(() => performance.now() - listedAfter > REFUSED_AFTER_MS, 'until the instance refuses them');
      await this.#until(() => this.#files.pendingSegments() === 0, 'for its log to be shipped');
      if (await hasRows(this.#client, this.#database, this.#users)) await this.#erase();
    }
    // After the log: a segment that is shipped may be kept, and may leave dead letters.
    const deadLetters = this.#files.removeDeadLetters();
    const keptSegments = this.#files.removeKept();
    this.#files.removeSpares();
    if (isWaiting) await this.#until(async () => (await this.#daysLeft()) === 0, 'for the days to be rebuilt');
    return {
      users: this.#users.length,
      rows: this.#erased.reduce((sum, { rows }) => sum + rows, 0),
      deadLetters,
      keptSegments,
      days: this.#erased.reduce((sum, { days }) => sum + days, 0),
      daysLeft: await this.#daysLeft(),
      pendingSegments: this.#files.pendingSegments(),
      setAside: this.#files.setAside(),
    };
  }

  async #erase(): Promise<void> {
    const onProgress = (line: string): void => this.#progress.tick(() => line);
    this.#erased.push(await forgetUsers(this.#client, this.#database, this.#users, onProgress));
  }

  async #daysLeft(): Promise<number> {
    let left = 0;
    for (const { days, rebuild } of this.#erased) {
      if (days > 0) left += await daysToRebuild(this.#client, this.#database, rebuild);
    }
    return left;
  }

  async #until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
    while (!(await holds())) {
      this.#progress.tick(() => `waiting ${what}`);
      await sleep(POLL_MS);
    }
  }
}

function textOf(outcome: Outcome, isRunning: boolean): string {
  const { users, rows, deadLetters, keptSegments, days, daysLeft, pendingSegments, setAside } = outcome;
  const lines = [
    `${count(users, 'user')} forgotten: ${count(rows, 'row')}, ${count(deadLetters, 'dead letter')} and ` +
      `${count(keptSegments, 'kept segment')} deleted, ${count(days - daysLeft, 'day')} rebuilt`,
  ];
  if (daysLeft > 0) {
    lines.push(
      `${count(daysLeft, 'day')} left to rebuild, by a running instance; until then they are answered from raw rows`,
    );
  }
  if (pendingSegments > 0) {
    const when = isRunning ? 'now' : 'when the instance starts again';
    lines.push(
      `! ${count(pendingSegments, 'segment')} of the log with rows of them not shipped yet: they ship ${when}; run this again after that`,
    );
  }
  for (const file of setAside)
    lines.push(`! ${file} was set aside and may hold rows of them: look at it, and remove it`);
  return lines.map((line) => `${line}\n`).join('');
}
