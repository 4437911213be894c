import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createFlow, FLOW_SLOT } from '../../src/shared/channel.js';
import { createCounters } from '../../src/shared/counters.js';
import { SEGMENT_MAX_ROWS } from '../../src/shared/limits.js';
import { Disposal } from '../../src/workers/flusher/disposal.js';
import { ordinalOf } from '../../src/workers/flusher/wal/format.js';
import { EPOCHS_FILE, Log } from '../../src/workers/flusher/wal/log.js';
import { scanSegment } from '../../src/workers/flusher/wal/segment-reader.js';
import { SpaceProbe } from '../../src/workers/flusher/wal/space-probe.js';
import { silentLog } from './clickhouse.js';
import { Crash, CrashDisk, CRASHES, type CrashKind } from './crash-disk.js';
import { randomFrom } from './metrics-model.js';

/**
 * Random lives of a log against a model of what it must hold. A life appends groups, seals, ships (the real reader and the real
 * disposal, without ClickHouse), meets faults of the disk and ends at a crash point, by the end of the process or of the
 * power; the next life starts on what is left. The model knows of every group whether it was acknowledged, and holds:
 *
 *   every acknowledged group is shipped, whole, or is in the log
 *   what is shipped was appended, in the segment that it is read from: nothing of a file's former life passes
 *   nothing is shipped twice but after a crash, which may undo what was not synced
 *   a sequence number means the same rows wherever it stands, and acknowledged ones follow each other without a gap
 *   nothing is reported as damaged where no disk has lied
 */

export interface Sequence {
  readonly seed: number;
  readonly lives: number;
  readonly acknowledgedRows: number;
  readonly crashes: ReadonlyMap<string, number>;
}

interface Group {
  readonly payload: Buffer;
  readonly rows: number;
  readonly life: number;
  acknowledged: boolean;
  shipped: boolean;
  /** The last life that shipped it. */
  shippedIn: number | undefined;
}

const CALLS = [
  'create',
  'reopen',
  'rename',
  'writeAll',
  'syncData',
  'truncate',
  'close',
  'syncDirectory',
  'appendLine',
  'remove',
] as const;
const WAL_MAX_BYTES = 1 << 20;
const STEPS_MAX = 40;

/** Runs one random sequence of lives; throws with the seed where the log breaks a promise. */
export function runSequence(seed: number): Sequence {
  const parent = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
  const directory = fs.mkdtempSync(path.join(parent, 'penstock-model-'));
  try {
    return new Lives(directory, seed).run();
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new Error(`MODEL_SEED=${seed}: ${text}`, { cause: error });
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

class Lives {
  readonly #directory: string;
  readonly #seed: number;
  readonly #random: () => number;
  readonly #disk: CrashDisk;
  readonly #groups: Group[] = [];
  /** Group by `epoch:first sequence`. */
  readonly #sequences = new Map<string, number>();
  readonly #epochs = new Map<bigint, { first: bigint; rows: number; acknowledged: boolean }[]>();
  #life = 0;

  constructor(directory: string, seed: number) {
    this.#directory = directory;
    this.#seed = seed;
    this.#random = randomFrom(seed);
    this.#disk = new CrashDisk(directory, this.#random);
  }

  run(): Sequence {
    const lives = 1 + this.#below(5);
    for (let life = 0; life < lives; life += 1) {
      this.#life = life;
      if (this.#random() < 0.8) this.#disk.crashAt(1 + this.#below(120));
      this.#live(() => this.#randomLife());
      this.#disk.restart(this.#among<CrashKind>(CRASHES));
    }
    this.#life = lives;
    this.#live(() => this.#shipEverything());
    this.#everythingIsThere();
    let acknowledgedRows = 0;
    for (const { acknowledged, rows } of this.#groups) if (acknowledged) acknowledgedRows += rows;
    return { seed: this.#seed, lives, acknowledgedRows, crashes: this.#disk.crashes };
  }

  /** A life ends where the process does; any other error is one. */
  #live(life: () => void): void {
    try {
      life();
    } catch (error) {
      if (!this.#disk.isDead && !(error instanceof Crash)) throw error;
    }
  }

  #start(): Process | undefined {
    const flow = createFlow(createCounters());
    try {
      const log = new Log(this.#disk, this.#directory, flow, silentLog);
      return new Process(log, flow.slots, this.#disk, this.#directory);
    } catch (error) {
      if (isFault(error)) return undefined;
      throw error;
    }
  }

  #randomLife(): void {
    let process: Process | undefined;
    for (let tries = 0; process === undefined; tries += 1) {
      if (tries === 0 && this.#random() < 0.1) this.#fault();
      process = this.#start();
    }
    const steps = this.#below(STEPS_MAX);
    for (let step = 0; step < steps; step += 1) this.#step(process);
    if (this.#random() < 0.3) process.log.close();
  }

  #step(process: Process): void {
    const choice = this.#random();
    if (choice < 0.5) this.#append(process);
    else if (choice < 0.62) tolerant(() => process.log.seal());
    else if (choice < 0.7) tolerant(() => process.log.prepare());
    else if (choice < 0.9) this.#ship(process);
    else if (choice < 0.905) process.probe.try();
    else this.#fault();
  }

  #append({ log }: Process): void {
    const number = this.#groups.length;
    const payload = Buffer.alloc(8 + this.#below(this.#random() < 0.1 ? 9_000 : 200), number % 251);
    payload.writeUInt32LE(number, 0);
    payload.writeUInt32LE(this.#seed >>> 0, 4);
    // Now and then so many that a segment is soon full.
    const rows = this.#random() < 0.15 ? Math.floor(SEGMENT_MAX_ROWS / 3) : 1 + this.#below(50);
    const group: Group = { payload, rows, life: this.#life, acknowledged: false, shipped: false, shippedIn: undefined };
    this.#groups.push(group);
    const half = this.#below(payload.length);
    try {
      log.append([payload.subarray(0, half), payload.subarray(half)], payload.length, rows);
    } catch (error) {
      if (isFault(error)) return;
      throw error;
    }
    if (!this.#disk.isDead) group.acknowledged = true;
  }

  #fault(): void {
    this.#disk.nextFault = { call: this.#among(CALLS), code: this.#random() < 0.5 ? 'EIO' : 'ENOSPC' };
  }

  /** What the shipper does with the oldest sealed segment, confirmed by the model in place of ClickHouse. */
  #ship({ sealed, disposal }: Process): void {
    const ordinal = sealed()[0];
    if (ordinal === undefined) return;
    this.#read(ordinal);
    // A segment that could not be let go is sent again.
    if (!tolerant(() => disposal.dispose(ordinal))) for (const group of this.#groups) group.shippedIn = undefined;
  }

  #shipEverything(): void {
    const process = this.#start();
    if (process === undefined) throw new Error('the log cannot be opened on a disk without faults');
    for (const ordinal of process.sealed()) {
      this.#read(ordinal);
      process.disposal.dispose(ordinal);
    }
    if (process.sealed().length > 0) throw new Error('segments are left after all were disposed of');
  }

  #read(ordinal: number): void {
    const file = path.join(this.#directory, `${String(ordinal).padStart(16, '0')}.wal`);
    const payloads: Buffer[] = [];
    const scan = scanSegment(file, (payload) => payloads.push(Buffer.from(payload)));
    if (scan.kind === 'unborn') return;
    if (scan.kind !== 'segment') throw new Error(`segment ${ordinal} is ${scan.kind}, and no disk has lied`);
    if (scan.damages.length > 0)
      throw new Error(`segment ${ordinal} is damaged, and no disk has lied: ${JSON.stringify(scan.damages)}`);
    for (const [at, payload] of payloads.entries()) {
      const number = payload.readUInt32LE(0);
      const group = this.#groups[number];
      const frame = scan.frames[at];
      if (group === undefined || frame === undefined || !group.payload.equals(payload) || frame.rows !== group.rows)
        throw new Error(`segment ${ordinal} ships at ${frame?.offset} what was never appended`);
      if (group.shippedIn === this.#life)
        throw new Error(`group ${number} is shipped twice without a crash in between`);
      group.shipped = true;
      group.shippedIn = this.#life;
      this.#sequence(scan.head.epoch, frame.firstSequence, number, group);
    }
  }

  #sequence(epoch: bigint, first: bigint, number: number, { rows, acknowledged }: Group): void {
    const key = `${epoch}:${first}`;
    const other = this.#sequences.get(key);
    if (other === number) return;
    if (other !== undefined) throw new Error(`sequence ${key} means group ${other} and group ${number}`);
    this.#sequences.set(key, number);
    const ranges = this.#epochs.get(epoch) ?? [];
    ranges.push({ first, rows, acknowledged });
    this.#epochs.set(epoch, ranges);
  }

  #everythingIsThere(): void {
    for (const [number, group] of this.#groups.entries()) {
      if (group.acknowledged && !group.shipped)
        throw new Error(`group ${number} of life ${group.life} was acknowledged and is lost`);
    }
    const lines = fs.readFileSync(path.join(this.#directory, EPOCHS_FILE), 'utf8').split('\n');
    const known = new Set(lines.map((line) => /^(\d+) \d{4}-/.exec(line)?.[1]));
    for (const [epoch, ranges] of this.#epochs) {
      let next = 0n;
      for (const { first, rows } of ranges.toSorted((a, b) => (a.first < b.first ? -1 : 1))) {
        if (first !== next) throw new Error(`epoch ${epoch} goes from ${next} on at ${first}`);
        next = first + BigInt(rows);
      }
      if (!known.has(String(epoch)) && ranges.some(({ acknowledged }) => acknowledged))
        throw new Error(`epoch ${epoch} has acknowledged rows and no line among the epochs`);
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #among<T>(of: readonly T[]): T {
    const one = of[this.#below(of.length)];
    if (one === undefined) throw new Error('nothing to choose from');
    return one;
  }
}

class Process {
  readonly log: Log;
  readonly disposal: Disposal;
  readonly probe: SpaceProbe;
  readonly #slots: Int32Array;
  readonly #directory: string;

  constructor(log: Log, slots: SharedArrayBuffer, disk: CrashDisk, directory: string) {
    this.log = log;
    this.#slots = new Int32Array(slots);
    this.#directory = directory;
    this.disposal = new Disposal({ fs: disk, directory, keepMs: 0, walMaxBytes: WAL_MAX_BYTES });
    this.probe = new SpaceProbe(disk, directory);
  }

  readonly sealed = (): number[] => {
    const active = Atomics.load(this.#slots, FLOW_SLOT.activeOrdinal);
    const ordinals = fs.readdirSync(this.#directory).map(ordinalOf);
    return ordinals
      .filter((ordinal): ordinal is number => ordinal !== undefined && ordinal < active)
      .toSorted((a, b) => a - b);
  };
}

function isFault(error: unknown): boolean {
  return error instanceof Error && error.message.includes('a fault of the test');
}

/** Whether the disk took it. */
function tolerant(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (!isFault(error)) throw error;
    return false;
  }
}
