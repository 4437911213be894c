import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { FLOW_SLOT, type FlowMemory } from '../../shared/channel.js';
import { clickHouseReason } from '../../shared/clickhouse/client.js';
import { Counters, SHIP_STATE } from '../../shared/counters.js';
import { isDiskFull, messageOf } from '../../shared/errors.js';
import type { Logger } from '../../shared/log.js';
import { type Batch, type IntactSegment, readSegment, SegmentRows } from './batch.js';
import { deadLetter, DeadLetterStore } from './dead-letter.js';
import type { Disposal } from './disposal.js';
import { insertBatch } from './insert.js';
import { type Isolated, isolate } from './isolate.js';
import { type LedgerState, writeLedger } from './ledger.js';
import { PieceBuffers } from './piece-stream.js';
import { backoffMs, classify } from './retry.js';
import { setAsideDamage, setAsideSegment } from './set-aside.js';
import { ordinalOf, segmentName } from './wal/format.js';
import type { SegmentScan } from './wal/segment-reader.js';

/**
 * Sealed segments to ClickHouse, in order, one at a time, until each is confirmed.
 *
 * Owns the second half of invariant 2: every event in a synced frame reaches ClickHouse, or the dead-letter store with its
 * reason. A segment's file is let go only when its INSERT was confirmed and recorded, its refused rows are on disk as dead
 * letters, or it holds nothing; what cannot be read is set aside under `wal/damaged/` and reported.
 */
export interface ShipperOptions {
  readonly client: ClickHouseClient;
  readonly database: string;
  readonly walDirectory: string;
  readonly deadLetterDirectory: string;
  readonly deadLetterMaxBytes: number;
  /** What becomes of a segment whose rows are all stored or dead letters. */
  readonly disposal: Pick<Disposal, 'dispose'>;
  readonly flow: FlowMemory;
  readonly log: Logger;
  /** Called when nothing of a segment is left to ship, with what ClickHouse has taken of it. */
  readonly onShipped?: (ordinal: number, batches: readonly Batch[]) => void;
}

/** A read that failed so often is not tried again. */
const DISK_ATTEMPTS = 5;

type Refusal = Error & { readonly code: string };

export class Shipper {
  readonly #options: ShipperOptions;
  readonly #flow: Int32Array;
  readonly #counters: Counters;
  readonly #deadLetters: DeadLetterStore;
  readonly #buffers = new PieceBuffers();
  readonly #stop = new AbortController();
  /** Ordinals of sealed segments, ascending. */
  readonly #pending: number[];
  #known: number;
  /** Of the segment at hand: what is in ClickHouse and noted. */
  #completed: Batch[] = [];

  constructor(options: ShipperOptions) {
    this.#options = options;
    this.#flow = new Int32Array(options.flow.slots);
    this.#counters = new Counters(options.flow.counters);
    this.#deadLetters = new DeadLetterStore(options.deadLetterDirectory, options.deadLetterMaxBytes);
    const active = Atomics.load(this.#flow, FLOW_SLOT.activeOrdinal);
    this.#pending = sealedSegments(options.walDirectory, active);
    this.#known = active - 1;
    Atomics.store(this.#flow, FLOW_SLOT.shippedThrough, (this.#pending[0] ?? active) - 1);
    this.#counters.set('deadLetterBytes', this.#deadLetters.bytes);
  }

  get pending(): number {
    this.#takeSealed();
    return this.#pending.length;
  }

  /** Ships the oldest sealed segment; false where there is none. Returns early, with nothing lost, after `stop`. */
  async shipNext(): Promise<boolean> {
    this.#takeSealed();
    const ordinal = this.#pending[0];
    if (ordinal === undefined) return false;
    await this.#ship(ordinal);
    if (this.stopped) return false;
    // An operator's command may have taken letters away.
    if (this.#counters.get('deadLetterBytes') > 0) this.#counters.set('deadLetterBytes', this.#deadLetters.bytes);
    this.#pending.shift();
    Atomics.store(this.#flow, FLOW_SLOT.shippedThrough, this.shippedThrough);
    this.#options.onShipped?.(this.shippedThrough, this.#completed);
    this.#completed = [];
    return true;
  }

  /** Every segment up to this ordinal is in ClickHouse. */
  get shippedThrough(): number {
    return (this.#pending[0] ?? this.#known + 1) - 1;
  }

  get stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Gives up waiting for ClickHouse: what is not confirmed stays in the log. */
  stop(): void {
    this.#stop.abort();
  }

  #takeSealed(): void {
    const active = Atomics.load(this.#flow, FLOW_SLOT.activeOrdinal);
    while (this.#known < active - 1) {
      this.#known += 1;
      this.#pending.push(this.#known);
    }
  }

  /**
   * What ClickHouse says is dealt with further in; what is thrown up to here is the disk's: a sector that cannot be read must
   * not end the process again at every start, nor hold up the segments behind.
   */
  async #ship(ordinal: number): Promise<void> {
    const file = path.join(this.#options.walDirectory, segmentName(ordinal));
    for (let attempt = 1; !this.stopped; attempt += 1) {
      try {
        await this.#tryShip(ordinal, file);
        return;
      } catch (error) {
        if (attempt >= DISK_ATTEMPTS && !isDiskFull(error) && this.#giveUpOn(ordinal, file, error)) return;
        await this.#pauseAfter(error, { file }, attempt, false);
      }
    }
  }

  /** Sets a segment aside that the disk does not give; false where it does not even let us do that. */
  #giveUpOn(ordinal: number, file: string, error: unknown): boolean {
    try {
      const { size } = fs.statSync(file);
      setAsideSegment(file, { kind: 'disk', error: messageOf(error) }, this.#options.log);
      this.#counters.add('walDamagedBytes', size);
      const found = ordinal < Atomics.load(this.#flow, FLOW_SLOT.firstOrdinal);
      // How much of a file that this process wrote was its segment is not known: the file is at least as long.
      if (found) this.#counters.add('walBytesFreed', size);
      this.#counters.set('shipState', SHIP_STATE.ok);
      return true;
    } catch (fault) {
      this.#options.log.error({ file, err: fault }, 'a segment that cannot be read cannot be set aside either');
      return false;
    }
  }

  async #tryShip(ordinal: number, file: string): Promise<void> {
    const { log } = this.#options;
    // An ordinal whose file could not be opened was never written to.
    if (!fs.existsSync(file)) return;
    const { scan, batch } = readSegment(file);
    if (scan.kind === 'newer' || scan.kind === 'headless') {
      if (scan.kind === 'headless') this.#counters.add('walDamagedBytes', scan.bytes);
      this.#free(ordinal, file, scan);
      setAsideSegment(file, scan, log);
      return;
    }
    if (scan.kind === 'segment') this.#reportGaps(file, scan);
    if (scan.kind === 'segment' && batch !== undefined) {
      const fate = await this.#shipBatch(file, scan, batch);
      if (this.stopped) return;
      if (fate === 'unreadable') {
        this.#free(ordinal, file, scan);
        setAsideSegment(file, { kind: 'unreadable' }, log);
        return;
      }
    }
    this.#free(ordinal, file, scan);
    this.#options.disposal.dispose(ordinal);
  }

  async #shipBatch(file: string, scan: IntactSegment, batch: Batch): Promise<'shipped' | 'unreadable'> {
    await this.#note(['intent'], [batch]);
    const refusal = await this.#insert(batch);
    if (refusal === undefined) {
      await this.#note(['completion'], [batch]);
      this.#completed.push(batch);
      return 'shipped';
    }
    if (classify(refusal) === 'refused') await this.#shipInParts(file, scan, refusal);
    // Last: until then the intent says that some of its rows may be there.
    await this.#note(['refused'], [batch]);
    return classify(refusal) === 'unreadable' ? 'unreadable' : 'shipped';
  }

  /** Stores what ClickHouse takes of a refused batch, and buries the rest. */
  async #shipInParts(file: string, scan: IntactSegment, refusal: Refusal): Promise<void> {
    const reason = clickHouseReason(refusal);
    this.#options.log.error({ file, rows: scan.rows, reason }, 'ClickHouse refuses a row: looking for it');
    const rows = new SegmentRows(file, scan);
    const stored: Batch[] = [];
    let inserts = 0;
    const isolated = await isolate(rows.count, refusal, async (part) => {
      inserts += 1;
      const batch = rows.batch(part);
      const error = await this.#insert(batch);
      if (error === undefined) stored.push(batch);
      return error;
    });
    if (this.stopped) return;
    this.#options.log.info({ file, inserts, stored: stored.length, refused: isolated.length }, 'found what is refused');
    // Their intent until now was that of the whole: noted with their completion, none can stay open.
    if (stored.length > 0) await this.#note(['intent', 'completion'], stored);
    this.#completed.push(...stored);
    if (isolated.length > 0) await this.#bury(file, scan, rows, isolated);
  }

  /** Stores a batch; returns the error where ClickHouse refuses a row of it or cannot read it. */
  async #insert(batch: Batch): Promise<Refusal | undefined> {
    const { client, database } = this.#options;
    const from = performance.now();
    const refusal = await this.#untilConfirmed(
      batch,
      () => insertBatch(client, database, batch, this.#stop.signal, this.#buffers),
      true,
    );
    if (refusal === undefined && !this.stopped) this.#stored(batch, (performance.now() - from) / 1000);
    return refusal;
  }

  async #note(states: readonly LedgerState[], batches: readonly Batch[]): Promise<void> {
    const { client, database } = this.#options;
    const { signal } = this.#stop;
    const rows = batches.reduce((sum, batch) => sum + batch.rows, 0);
    await this.#untilConfirmed({ rows }, () => writeLedger(client, database, states, batches, signal), false);
  }

  /** Repeats a step until it succeeds or `stop`; returns the error of one that no repetition can mend. */
  async #untilConfirmed(
    batch: Pick<Batch, 'rows'>,
    step: () => Promise<void>,
    mayRefuse: boolean,
  ): Promise<Refusal | undefined> {
    for (let attempt = 1; !this.stopped; attempt += 1) {
      try {
        await step();
        if (attempt > 1) this.#options.log.info({ rows: batch.rows, attempts: attempt }, 'shipping goes on');
        this.#counters.set('shipState', SHIP_STATE.ok);
        return undefined;
      } catch (error) {
        if (this.stopped) return undefined;
        if (isDiskError(error)) throw error;
        const verdict = classify(error);
        if (mayRefuse && (verdict === 'refused' || verdict === 'unreadable')) return error as Refusal;
        await this.#pauseAfter(error, { rows: batch.rows }, attempt, verdict === 'retry');
      }
    }
    return undefined;
  }

  #stored(batch: Batch, seconds: number): void {
    const rate = batch.bytes / Math.max(seconds, 0.001);
    const known = this.#counters.get('shipBytesPerSecond');
    this.#counters.set('shipBytesPerSecond', known === 0 ? rate : known * 0.8 + rate * 0.2);
    this.#counters.add('shippedRows', batch.rows);
    this.#counters.add('shippedSegments', 1);
  }

  async #pauseAfter(error: unknown, about: object, attempt: number, transient: boolean): Promise<void> {
    const waitMs = backoffMs(attempt, Math.random());
    this.#counters.add('shipFailures', 1);
    this.#counters.set('shipState', transient ? SHIP_STATE.retrying : SHIP_STATE.misconfigured);
    // The first time, and then whenever the number of attempts has doubled: an outage of an hour is not a thousand lines.
    if ((attempt & (attempt - 1)) === 0) {
      const line = { ...about, attempt, reason: clickHouseReason(error), retryInMs: Math.round(waitMs) };
      if (transient) this.#options.log.warn(line, 'ClickHouse did not confirm; the same is sent again');
      else this.#options.log.error(line, 'shipping has stopped until this is mended; everything is kept');
    }
    try {
      await sleep(waitMs, undefined, { signal: this.#stop.signal });
    } catch {
      // Stopped: the caller looks.
    }
  }

  /** The refused rows become dead letters, durably, before their segment goes. Waits where the store is full. */
  async #bury(
    file: string,
    scan: IntactSegment,
    rows: SegmentRows,
    isolated: readonly Isolated<Refusal>[],
  ): Promise<void> {
    const { epoch } = scan.head;
    const letters = isolated.map(({ row, error }) =>
      deadLetter(
        rows.bytesOf(row, row + 1),
        { epoch, sequence: rows.sequenceOf(row), segment: path.basename(file) },
        { code: error.code, message: error.message },
      ),
    );
    for (let attempt = 1; !this.stopped; attempt += 1) {
      try {
        this.#deadLetters.put(epoch, rows.sequenceOf(0), letters);
        break;
      } catch (error) {
        await this.#pauseAfter(error, { file, letters: letters.length }, attempt, false);
      }
    }
    if (this.stopped) return;
    this.#counters.set('shipState', SHIP_STATE.ok);
    this.#counters.add('deadLetters', letters.length);
    this.#counters.set('deadLetterBytes', this.#deadLetters.bytes);
    this.#options.log.error(
      { file, events: letters.length },
      'events went to the dead-letter store; the rest is stored',
    );
  }

  #reportGaps(file: string, scan: IntactSegment): void {
    const { log } = this.#options;
    if (scan.tear !== undefined) {
      this.#counters.add('walTornBytes', scan.tear.bytes);
      log.warn({ file, ...scan.tear }, 'cut a torn tail that was never acknowledged');
    }
    for (const gap of scan.damages) {
      this.#counters.add('walDamagedBytes', gap.bytes);
      setAsideDamage(file, gap, log);
    }
  }

  /** What the log thread counted for this segment: a file that it found by its size, one that it wrote by its content. */
  #free(ordinal: number, file: string, scan: SegmentScan): void {
    const found = ordinal < Atomics.load(this.#flow, FLOW_SLOT.firstOrdinal);
    const bytes = found || scan.kind !== 'segment' ? fs.statSync(file).size : scan.end;
    this.#counters.add('walBytesFreed', bytes);
  }
}

function sealedSegments(directory: string, active: number): number[] {
  const ordinals = fs.readdirSync(directory).map(ordinalOf);
  const isSealed = (ordinal: number | undefined): ordinal is number => ordinal !== undefined && ordinal < active;
  return ordinals.filter(isSealed).toSorted((a, b) => a - b);
}

/** Of reading a segment while it is sent; ClickHouse's own errors have numbers. */
function isDiskError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'EIO' || error.code === 'ENOENT');
}
