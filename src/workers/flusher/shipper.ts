import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import { FLOW_SLOT, type FlowMemory } from '../../shared/channel.js';
import { clickHouseReason } from '../../shared/clickhouse/client.js';
import { Counters, SHIP_STATE } from '../../shared/counters.js';
import type { Logger } from '../../shared/log.js';
import { insertSegment, type SegmentRows, TokenHash } from './insert.js';
import { backoffMs, classify } from './retry.js';
import { ordinalOf, segmentName } from './wal/format.js';
import { scanSegment, type SegmentScan } from './wal/segment-reader.js';

/**
 * Sealed segments to ClickHouse, in order, one at a time, until each is confirmed; a confirmed one is removed.
 *
 * Owns the second half of invariant 2: every event in a synced frame reaches ClickHouse. A file goes away only after its
 * INSERT was confirmed, or when it holds nothing; what cannot be read is set aside under `wal/damaged/` and reported.
 */
export class Shipper {
  readonly #client: ClickHouseClient;
  readonly #database: string;
  readonly #directory: string;
  readonly #flow: Int32Array;
  readonly #counters: Counters;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  /** Ordinals of sealed segments, ascending. */
  readonly #pending: number[];
  #known: number;

  constructor(client: ClickHouseClient, database: string, directory: string, flow: FlowMemory, log: Logger) {
    this.#client = client;
    this.#database = database;
    this.#directory = directory;
    this.#flow = new Int32Array(flow.slots);
    this.#counters = new Counters(flow.counters);
    this.#log = log;
    const active = Atomics.load(this.#flow, FLOW_SLOT.activeOrdinal);
    this.#pending = this.#earlierSegments(active);
    this.#known = active - 1;
    Atomics.store(this.#flow, FLOW_SLOT.shippedThrough, (this.#pending[0] ?? active) - 1);
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
    this.#pending.shift();
    Atomics.store(this.#flow, FLOW_SLOT.shippedThrough, (this.#pending[0] ?? this.#known + 1) - 1);
    return true;
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

  #earlierSegments(active: number): number[] {
    const ordinals = fs.readdirSync(this.#directory).map(ordinalOf);
    return ordinals
      .filter((ordinal) => ordinal !== undefined && ordinal < active)
      .toSorted((a, b) => (a ?? 0) - (b ?? 0)) as number[];
  }

  async #ship(ordinal: number): Promise<void> {
    const file = path.join(this.#directory, segmentName(ordinal));
    const token = new TokenHash();
    let scan: SegmentScan;
    try {
      scan = scanSegment(file, (rows) => token.update(rows));
    } catch (error) {
      if (isMissing(error)) return;
      throw error;
    }
    if (scan.kind === 'newer' || scan.kind === 'headless') {
      this.#setAside(file, scan);
      return;
    }
    if (scan.kind === 'segment') {
      this.#reportGaps(file, scan);
      if (scan.rows > 0) {
        await this.#insertUntilConfirmed({
          file,
          frames: scan.frames,
          rows: scan.rows,
          bytes: scan.bytes,
          token: token.digest(),
        });
        if (this.stopped) return;
      }
    }
    this.#remove(file);
  }

  async #insertUntilConfirmed(segment: SegmentRows): Promise<void> {
    for (let attempt = 1; !this.stopped; attempt += 1) {
      const from = performance.now();
      try {
        await insertSegment(this.#client, this.#database, segment, this.#stop.signal);
        this.#confirmed(segment, (performance.now() - from) / 1000, attempt);
        return;
      } catch (error) {
        if (this.stopped) return;
        await this.#pauseAfter(error, segment, attempt);
      }
    }
  }

  #confirmed(segment: SegmentRows, seconds: number, attempts: number): void {
    if (attempts > 1) this.#log.info({ file: segment.file, rows: segment.rows, attempts }, 'shipping goes on');
    const rate = segment.bytes / Math.max(seconds, 0.001);
    const known = this.#counters.get('shipBytesPerSecond');
    this.#counters.set('shipBytesPerSecond', known === 0 ? rate : known * 0.8 + rate * 0.2);
    this.#counters.set('shipState', SHIP_STATE.ok);
    this.#counters.add('shippedRows', segment.rows);
    this.#counters.add('shippedSegments', 1);
  }

  async #pauseAfter(error: unknown, segment: SegmentRows, attempt: number): Promise<void> {
    const verdict = classify(error);
    const waitMs = backoffMs(verdict, attempt, Math.random());
    this.#counters.add('shipFailures', 1);
    this.#counters.set('shipState', verdict === 'retry' ? SHIP_STATE.retrying : SHIP_STATE.misconfigured);
    // The first time, and then whenever the number of attempts has doubled: an outage of an hour is not a thousand lines.
    if ((attempt & (attempt - 1)) === 0) {
      const line = {
        file: segment.file,
        rows: segment.rows,
        attempt,
        verdict,
        reason: clickHouseReason(error),
        retryInMs: Math.round(waitMs),
      };
      if (verdict === 'retry') this.#log.warn(line, 'ClickHouse did not confirm a segment; it is sent again');
      else this.#log.error(line, 'ClickHouse refuses a segment; it is kept and sent again until that is mended');
    }
    try {
      await sleep(waitMs, undefined, { signal: this.#stop.signal });
    } catch {
      // Stopped: the caller looks.
    }
  }

  #reportGaps(file: string, scan: SegmentScan & { kind: 'segment' }): void {
    if (scan.tear !== undefined) {
      this.#counters.add('walTornBytes', scan.tear.bytes);
      this.#log.warn(
        { file, offset: scan.tear.offset, bytes: scan.tear.bytes },
        'cut a torn tail that was never acknowledged',
      );
    }
    for (const gap of scan.damages) {
      this.#counters.add('walDamagedBytes', gap.bytes);
      const copy = this.#damagedPath(`${path.basename(file)}.${gap.offset}`);
      copyRange(file, gap.offset, gap.bytes, copy);
      this.#log.error(
        { file, offset: gap.offset, bytes: gap.bytes, copy },
        'the log is damaged: set aside; everything around it ships',
      );
    }
  }

  #setAside(file: string, scan: SegmentScan & { kind: 'newer' | 'headless' }): void {
    const size = fs.statSync(file).size;
    const target = this.#damagedPath(path.basename(file));
    fs.renameSync(file, target);
    this.#counters.add('walBytesFreed', size);
    if (scan.kind === 'headless') this.#counters.add('walDamagedBytes', size);
    const why = scan.kind === 'newer' ? `written by a newer release (format ${scan.version})` : 'its head is damaged';
    this.#log.error({ file, target, bytes: size }, `cannot read a segment, it is set aside: ${why}`);
  }

  #damagedPath(name: string): string {
    const directory = path.join(this.#directory, 'damaged');
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    return path.join(directory, name);
  }

  /** The removal need not be durable: a segment that comes back is sent again, and counts once. */
  #remove(file: string): void {
    const { size } = fs.statSync(file);
    fs.rmSync(file);
    this.#counters.add('walBytesFreed', size);
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function copyRange(file: string, offset: number, bytes: number, target: string): void {
  const fd = fs.openSync(file, 'r');
  try {
    const range = Buffer.alloc(bytes);
    fs.readSync(fd, range, 0, bytes, offset);
    fs.writeFileSync(target, range, { mode: 0o600 });
  } finally {
    fs.closeSync(fd);
  }
}
