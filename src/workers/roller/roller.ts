import type { ClickHouseClient } from '@clickhouse/client';
import type { ShippedBatch } from '../../shared/channel.js';
import { tableName } from '../../shared/clickhouse/client.js';
import { monotonicMs } from '../../shared/clock.js';
import type { Counters } from '../../shared/counters.js';
import type { Logger } from '../../shared/log.js';
import { CellRows } from './cell-rows.js';
import { type Chunk, chunksOf, rowsOf } from './chunks.js';
import { commit, commitStatement } from './commit.js';
import { Counting } from './counting.js';
import type { Deltas } from './deltas.js';
import { Exceptions } from './exceptions.js';
import { Fence, FenceBroken } from './fence.js';
import type { CommitFollower } from './follower.js';
import { Identities } from './identities.js';
import {
  areAtMost,
  nextWindow,
  noteRolled,
  partsOfWindow,
  readPending,
  readRolled,
  readUnrolled,
  type ReceivedRange,
  receivedIn,
  rangesToTheEnd,
} from './pending.js';
import { rebuildDay } from './rebuild.js';
import { ROLLER_LIMITS, type RollerLimits } from './roller-limits.js';
import { ROW_COLUMNS, RowMemory, RowReader } from './row-reader.js';
import { isRemembered } from './rows.js';
import { UserNumbers } from './user-numbers.js';

/**
 * Keeps the rollup up to date: batches that ClickHouse has are added to it, once, in numbered commits
 * (docs/decisions/0008-rollups.md). Normally one instance does it for all; the others see their batches noted.
 *
 * Owns invariant 3 (an event counts once) where answers come from rollups. Whatever fails, nothing has been counted
 * in part: what is remembered is thrown away and the step is done again.
 */
export interface RollerOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly counters: Counters;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Batches that the instance's own shipper announced are rolled. */
  readonly onRolled: (tokens: readonly string[]) => void;
  /** Everything that was in ClickHouse when the roller started is rolled. */
  readonly onCaughtUp: () => void;
  readonly keptFromMs: () => number;
  readonly limits?: Partial<RollerLimits>;
}

/** Token of the note that everything from before the ledger is rolled. */
const BACKFILL = 'backfill';
/** How often the ledger is looked at: for batches of other instances, when there are some, and when none were seen lately. */
const LEDGER_BUSY_MS = 1_000;
const LEDGER_IDLE_MS = 10_000;
const OTHERS_MS = 60_000;
/** How often it is looked through as a whole. */
const LEDGER_WHOLE_MS = 10 * 60_000;
/**
 * As many times as long are own batches left to another roller that commits all the time: of a backlog it notes nothing until the end, and
 * two that work on it undo each other's steps.
 */
const PATIENCE = 8;
/** Ranges that one statement reads: each is a condition. */
const RANGES_MAX = 20;
/** Beyond every timestamp that ClickHouse can hold. */
const SECONDS_MAX = 2 ** 33;
/** How long ago what is pending was received, µs, where nothing is behind. */
const MOMENT_US = 8_000_000;

export class Roller {
  readonly #options: RollerOptions;
  readonly #limits: RollerLimits;
  readonly #fence: Fence;
  readonly #identities: Identities;
  readonly #users: UserNumbers;
  readonly #exceptions: Exceptions;
  readonly #counting: Counting;
  readonly #reader = new RowReader();
  readonly #cellRows = new CellRows();
  readonly #received = new RowMemory();
  /** By token. */
  readonly #pending = new Map<string, ShippedBatch>();
  readonly #own = new Set<string>();
  /** Pending, and counted except for events that were received once more. */
  readonly #counted = new Set<string>();
  /** What the first look at the ledger found, as far as it is not rolled. */
  #atStart: Set<string> | undefined;
  #stale = true;
  /** Commits at the last look, whoever made them. */
  #commitsSeen: number | undefined;
  #backfilled = false;
  #toBackfill: { readonly tokens: readonly string[]; readonly chunks: Chunk[] } | undefined;
  #caughtUp = false;
  /** Monotonic ms, all of them; -Infinity: never. */
  #ledgerReadAt = -Infinity;
  #ledgerReadWholeAt = -Infinity;
  #othersSeenAt = -Infinity;
  #otherCommitAt = -Infinity;
  #committedAt = -Infinity;
  #ownSince = Infinity;
  #follower: CommitFollower | undefined;

  constructor(options: RollerOptions) {
    this.#options = options;
    this.#limits = { ...ROLLER_LIMITS, ...options.limits };
    const { client, database, signal, keptFromMs } = options;
    this.#fence = new Fence(client, database, signal);
    this.#identities = new Identities(this.#limits);
    this.#users = new UserNumbers({
      client,
      database,
      signal,
      fence: this.#fence,
      memoryMax: this.#limits.users,
      usersMax: this.#limits.usersMax,
      filterMax: this.#limits.filteredUsers,
    });
    this.#exceptions = new Exceptions(client, database, signal);
    this.#exceptions.onRaised = () => this.#follower?.excepted();
    this.#counting = new Counting({
      client,
      database,
      signal,
      identities: this.#identities,
      users: this.#users,
      exceptions: this.#exceptions,
      reader: this.#reader,
      namesMax: this.#limits.namesMax,
      keptFromMs,
    });
  }

  /** A batch that the shipper of this instance has just brought into ClickHouse. */
  offer(batch: ShippedBatch): void {
    this.#pending.set(batch.token, batch);
    this.#own.add(batch.token);
    if (this.#ownSince === Infinity) this.#ownSince = monotonicMs();
  }

  /** From now on, `follower` is told of commits; nobody else is. */
  follow(follower: CommitFollower): void {
    this.#follower = follower;
    if (!this.#stale) follower.at(this.#fence.commits);
  }

  /** Rows of batches that are known and not rolled. */
  get pendingRows(): number {
    let rows = 0;
    for (const batch of this.#pending.values()) rows += batch.rows;
    return rows;
  }

  /** Whether there is more to do than one step does. */
  get isBehind(): boolean {
    return !this.#backfilled || this.#counted.size > 0;
  }

  /** Does the next piece of work; false where there is none. What fails is done again at the next call. */
  async step(): Promise<boolean> {
    try {
      return await this.#step();
    } catch (error) {
      this.#lose();
      if (error instanceof FenceBroken) {
        this.#otherCommitAt = monotonicMs();
        return true;
      }
      throw error;
    } finally {
      this.#publish();
    }
  }

  async #step(): Promise<boolean> {
    if (await this.#isLeftToAnother()) return false;
    if (this.#stale) await this.#reset();
    if (!this.#backfilled) {
      await this.#backfill();
      return true;
    }
    await this.#readLedger();
    this.#checkCaughtUp();
    if (this.#exceptions.open.length > 0) {
      const { client, database, signal } = this.#options;
      await rebuildDay({
        client,
        database,
        signal,
        fence: this.#fence,
        counting: this.#counting,
        cellRows: this.#cellRows,
        exceptions: this.#exceptions,
      });
      this.#follower?.at(this.#fence.commits);
      return true;
    }
    return this.#rollNext();
  }

  /** Another instance rolls: it notes what is rolled, unless it takes too long. */
  async #isLeftToAnother(): Promise<boolean> {
    // Others leave it to who has just committed. If one of them does not, the next commit finds out.
    if (!this.#stale && monotonicMs() - this.#committedAt < this.#limits.leaveToOthersMs) return false;
    const { commits } = await this.#fence.read();
    if (commits !== this.#fence.commits) {
      this.#lose();
      // The first look tells nothing about when those commits were.
      if (this.#commitsSeen !== undefined && commits !== this.#commitsSeen) this.#otherCommitAt = monotonicMs();
    }
    this.#commitsSeen = commits;
    if (monotonicMs() - this.#otherCommitAt > this.#limits.leaveToOthersMs) return false;
    await this.#findBackfill();
    await this.#readLedger();
    await this.#dropRolled();
    this.#checkCaughtUp();
    return monotonicMs() - this.#ownSince < PATIENCE * this.#limits.leaveToOthersMs;
  }

  async #dropRolled(): Promise<void> {
    const { client, database, signal } = this.#options;
    if (this.#pending.size === 0) return;
    const waiting = this.#own.size;
    const rolled = await readRolled(client, database, [...this.#pending.keys()], signal);
    // Another has committed these, perhaps since we looked: whoever follows must know before `as_of` moves.
    if (rolled.size > 0) this.#lose();
    this.#done([...rolled]);
    // What is left has not waited longer than since now, as far as anyone can tell.
    if (this.#own.size > 0 && this.#own.size < waiting) this.#ownSince = monotonicMs();
  }

  async #findBackfill(): Promise<void> {
    const { client, database, signal } = this.#options;
    if (!this.#backfilled) this.#backfilled = (await readRolled(client, database, [BACKFILL], signal)).size > 0;
  }

  #checkCaughtUp(): void {
    if (this.#caughtUp || !this.#backfilled || this.#atStart?.size !== 0) return;
    this.#caughtUp = true;
    this.#options.onCaughtUp();
  }

  async #reset(): Promise<void> {
    await this.#fence.reset();
    await this.#exceptions.reset();
    await this.#users.reset();
    await this.#counting.reset();
    await this.#findBackfill();
    this.#stale = false;
    this.#follower?.at(this.#fence.commits);
  }

  /** What is remembered may be old: the next step begins with what is committed. */
  #lose(): void {
    this.#stale = true;
    this.#follower?.lost();
  }

  /** Rows from before the ledger, or from before the rollup: all of the table, a chunk at a step. */
  async #backfill(): Promise<void> {
    const { client, database, signal, log, counters } = this.#options;
    if (this.#toBackfill === undefined) {
      // What completes from now on is rolled afterwards; nothing of it that is read here will be new then.
      const tokens = (await readPending(client, database, false, signal)).map(({ token }) => token);
      const everything = { eventName: undefined, from: 0, to: SECONDS_MAX };
      this.#toBackfill = { tokens, chunks: await chunksOf(client, database, everything, signal) };
      const rows = rowsOf(this.#toBackfill.chunks);
      if (rows > 0)
        log.info({ rows }, 'rolling what is in ClickHouse; until then questions are answered from raw rows');
    }
    const { tokens, chunks } = this.#toBackfill;
    const [chunk] = chunks;
    counters.set('rollBackfillRows', rowsOf(chunks));
    if (chunk !== undefined) {
      await this.#commit(await this.#counting.countRange(chunk.range, this.#exceptions.generationOf));
      chunks.shift();
      return;
    }
    await noteRolled(client, database, [BACKFILL, ...tokens], signal);
    this.#done(tokens);
    this.#backfilled = true;
    log.info('what was in ClickHouse is rolled');
  }

  async #readLedger(): Promise<void> {
    const { client, database, signal } = this.#options;
    const now = monotonicMs();
    const busy = now - this.#othersSeenAt < OTHERS_MS;
    if (now - this.#ledgerReadAt < (busy ? LEDGER_BUSY_MS : LEDGER_IDLE_MS)) return;
    const whole = now - this.#ledgerReadWholeAt > LEDGER_WHOLE_MS;
    for (const batch of await readPending(client, database, !whole, signal)) {
      if (this.#pending.has(batch.token)) continue;
      this.#pending.set(batch.token, batch);
      this.#othersSeenAt = now;
    }
    // Now, not before: what was offered before this look is in the ledger.
    this.#atStart ??= new Set(this.#pending.keys());
    await this.#exceptions.refresh();
    this.#ledgerReadAt = now;
    if (whole) this.#ledgerReadWholeAt = now;
  }

  // All that is pending is read to the end in one statement where it fits: a row of it that was replaced meanwhile is then found
  // where it was received again. Where it is too much, the oldest is counted by itself, and is noted with the rest.
  async #rollNext(): Promise<boolean> {
    const { client, database, signal } = this.#options;
    const { windowRows } = this.#limits;
    if (this.#pending.size === 0) return false;
    const isUncounted = ({ token }: ShippedBatch): boolean => !this.#counted.has(token);
    const uncounted = [...this.#pending.values()].filter(isUncounted);
    const tokens = [...this.#pending.keys()];
    // A row of what is counted may have been replaced by one of a batch that is on its way, or that nobody has announced yet.
    const others = this.#counted.size > 0 ? (await readUnrolled(client, database, signal)).filter(isUncounted) : [];
    const ranges = rangesToTheEnd([...uncounted, ...others]);
    if (await this.#fits(ranges, uncounted)) {
      if (ranges.length > 0) await this.#countReceived(ranges);
      await noteRolled(client, database, tokens, signal);
      this.#done(tokens);
      return true;
    }
    const window = nextWindow(uncounted, windowRows);
    if (window === undefined) return false;
    for (const part of await partsOfWindow(client, database, window, windowRows, signal)) {
      await this.#countReceived([part], window.rowsPerSecond);
    }
    for (const token of window.tokens) this.#counted.add(token);
    return true;
  }

  async #fits(ranges: readonly ReceivedRange[], uncounted: readonly ShippedBatch[]): Promise<boolean> {
    const { windowRows } = this.#limits;
    if (ranges.length > RANGES_MAX) return false;
    const rows = uncounted.reduce((sum, batch) => sum + batch.rows, 0);
    if (rows > windowRows) return false;
    const [first] = ranges;
    // What came in a few seconds is not much more than what is pending of them.
    if (first === undefined || (first.fromUs > Date.now() * 1000 - MOMENT_US && rows < windowRows / 2)) return true;
    const { client, database, signal } = this.#options;
    return await areAtMost(client, database, ranges, windowRows, signal);
  }

  /** Adds the rows that were received in these ranges, as far as they are not counted. */
  async #countReceived(ranges: readonly ReceivedRange[], rowsPerSecond = 0): Promise<void> {
    const { client, database, signal } = this.#options;
    const query = `SELECT ${ROW_COLUMNS} FROM ${tableName(database, 'events')}
      WHERE ${receivedIn(ranges)} AND ${isRemembered(database)}`;
    const groups = await this.#reader.read(client, query, this.#received, signal);
    await this.#commit(await this.#counting.countRows(groups, Date.now(), rowsPerSecond));
    this.#received.trim();
  }

  async #commit(deltas: Deltas): Promise<void> {
    const { client, database, signal, counters } = this.#options;
    if (deltas.empty) {
      // Perhaps another has counted them, in a commit that whoever follows does not know of.
      await this.#fence.verify();
      return;
    }
    const { generationOf } = this.#exceptions;
    // Before the commit: a key too many costs a look, one too few a wrong count.
    await this.#counting.noteKeys(deltas);
    await commit(
      client,
      database,
      this.#fence,
      commitStatement(this.#cellRows, deltas, generationOf, this.#fence, true),
      signal,
    );
    this.#committedAt = monotonicMs();
    this.#commitsSeen = this.#fence.commits;
    this.#follower?.added(this.#fence.commits, deltas, generationOf);
    counters.add('rolledRows', deltas.rows);
    counters.add('rollCommits', 1);
  }

  #done(tokens: readonly string[]): void {
    for (const token of tokens) {
      this.#pending.delete(token);
      this.#counted.delete(token);
      this.#atStart?.delete(token);
    }
    const own = tokens.filter((token) => this.#own.delete(token));
    if (this.#own.size === 0) this.#ownSince = Infinity;
    if (own.length > 0) this.#options.onRolled(own);
  }

  #publish(): void {
    const { counters } = this.#options;
    counters.set('rollPendingSegments', this.#pending.size);
    counters.set('rollLoadedSeconds', this.#counting.loadedSeconds);
    counters.set('rollEventNames', this.#counting.names);
    counters.set('rollUsers', this.#users.count);
    counters.set('rollOpenDays', this.#exceptions.open.length);
    counters.set('rollMemoryBytes', this.#identities.bytes + this.#users.bytes + this.#cellRows.bytes);
  }
}
