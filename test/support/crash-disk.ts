import fs from 'node:fs';
import path from 'node:path';
import { nodeFileSystem, type WalFileSystem } from '../../src/workers/flusher/wal/file-system.js';
import { isSpare, ordinalOf } from '../../src/workers/flusher/wal/format.js';
import { diskError } from './wal.js';

/**
 * A directory that knows what of it is durable. What a process sees stands in real files, so that readers need not know of
 * this; beside them stands what a power loss is sure to leave, and what it may take: every write, truncation, creation,
 * rename and removal that no sync has covered. At a power loss each of these is kept, lost or torn by chance.
 *
 * The rules are those of POSIX, which is more than what ext4 or XFS may do to us: data of a file becomes durable by a sync of
 * that file, a directory entry by a sync of the directory only. A write is torn between sectors of 512 bytes, a file may have grown without
 * its data (zeros), a rename happens or does not. Half of the losses keep directory changes in order, as journals do; in the
 * other half those that concern different files are independent of each other.
 *
 * After a sync that failed, what it should have covered stays visible, and no later sync makes it durable: it may be on the
 * disk or not.
 */

export const CRASHES = ['process', 'power'] as const;
export type CrashKind = (typeof CRASHES)[number];

/** Thrown at the crash point, and by every call behind it: the process is gone. */
export class Crash extends Error {}

interface DataChange {
  readonly at: number;
  /** Undefined: a truncation to `at`. */
  readonly bytes: Buffer | undefined;
}

interface Inode {
  durable: Buffer;
  pending: DataChange[];
}

interface NameChange {
  readonly name: string;
  readonly inode: Inode | undefined;
  /** A rename: the other name goes with it. */
  readonly from?: string;
}

type Call = Exclude<keyof WalFileSystem, 'list' | 'size'>;

const SECTOR = 512;

export class CrashDisk implements WalFileSystem {
  readonly directory: string;
  /** How often the process ended at each point. */
  readonly crashes = new Map<string, number>();
  /** The next call of this kind fails with this code. */
  nextFault: { readonly call: Call; readonly code: 'EIO' | 'ENOSPC' } | undefined;
  readonly #random: () => number;
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #pendingNames: NameChange[] = [];
  readonly #open = new Map<number, Inode>();
  /** Crash points left until the crash. */
  #countdown = Infinity;
  #dead = false;
  points = 0;

  constructor(directory: string, random: () => number) {
    this.directory = directory;
    this.#random = random;
  }

  get isDead(): boolean {
    return this.#dead;
  }

  /** The process ends at the nth crash point from now. */
  crashAt(points: number): void {
    this.#countdown = points;
  }

  /** Ends the process, where it has not ended by itself, and gives the disk to the next one. */
  restart(kind: CrashKind): void {
    for (const fd of this.#open.keys()) fs.closeSync(fd);
    this.#open.clear();
    this.#dead = false;
    this.#countdown = Infinity;
    this.nextFault = undefined;
    if (kind === 'power') this.#losePower();
  }

  create(file: string): number {
    return this.#call('create', file, () => {
      const fd = nodeFileSystem.create(file);
      const inode: Inode = { durable: Buffer.alloc(0), pending: [] };
      this.#open.set(fd, inode);
      this.#rename({ name: path.basename(file), inode });
      return fd;
    });
  }

  reopen(file: string): number {
    return this.#call('reopen', file, () => {
      const fd = nodeFileSystem.reopen(file);
      this.#open.set(fd, this.#inode(file));
      return fd;
    });
  }

  rename(from: string, to: string): void {
    this.#call('rename', from, () => {
      nodeFileSystem.rename(from, to);
      this.#rename({ name: path.basename(to), inode: this.#inode(from), from: path.basename(from) });
    });
  }

  writeAll(fd: number, pieces: readonly Uint8Array[], position: number): void {
    const bytes = Buffer.concat(pieces);
    const inode = this.#openInode(fd);
    const write = (part: Buffer): void => {
      nodeFileSystem.writeAll(fd, [part], position);
      inode.pending.push({ at: position, bytes: part });
    };
    const some = (): void => {
      const end = Math.floor((position + this.#random() * bytes.length) / SECTOR) * SECTOR;
      if (end > position) write(bytes.subarray(0, end - position));
    };
    this.#call('writeAll', this.#nameOf(inode), () => write(bytes), some);
  }

  syncData(fd: number): void {
    const inode = this.#openInode(fd);
    const sync = (): void => {
      for (const change of inode.pending) inode.durable = applied(inode.durable, change);
      inode.pending = [];
    };
    // What was to be synced is on the disk or is not, and counts as clean from now on.
    this.#call('syncData', this.#nameOf(inode), sync, () => this.#loseData(inode));
  }

  truncate(fd: number, length: number): void {
    const inode = this.#openInode(fd);
    this.#call('truncate', this.#nameOf(inode), () => {
      nodeFileSystem.truncate(fd, length);
      inode.pending.push({ at: length, bytes: undefined });
    });
  }

  close(fd: number): void {
    const inode = this.#openInode(fd);
    const close = (): void => {
      this.#open.delete(fd);
      nodeFileSystem.close(fd);
    };
    this.#call('close', this.#nameOf(inode), close, close);
  }

  syncDirectory(directory: string): void {
    this.#call('syncDirectory', directory, () => {
      this.#durableNames = new Map(this.#names);
      this.#pendingNames = [];
    });
  }

  appendLine(file: string, line: string): void {
    const exists = this.#names.has(path.basename(file));
    const fd = exists ? this.reopen(file) : this.create(file);
    try {
      const before = fs.readFileSync(file);
      const start = before.length > 0 ? '\n' : '';
      this.writeAll(fd, [Buffer.from(`${start}${line}\n`)], before.length);
      this.syncData(fd);
    } finally {
      this.close(fd);
    }
  }

  remove(file: string): void {
    this.#call('remove', file, () => {
      nodeFileSystem.remove(file);
      this.#rename({ name: path.basename(file), inode: undefined });
    });
  }

  list(directory: string): string[] {
    this.#live();
    return nodeFileSystem.list(directory);
  }

  size(file: string): number {
    this.#live();
    return nodeFileSystem.size(file);
  }

  /** One call: a crash point before it, one in it where it can be half done, one after it; or a fault. */
  #call<T>(call: Call, file: string, effect: () => T, half?: () => void): T {
    this.#live();
    const what = `${call} ${kindOf(file)}`;
    this.#point(`before ${what}`);
    if (this.nextFault?.call === call) {
      const { code } = this.nextFault;
      this.nextFault = undefined;
      half?.();
      throw diskError(code, call);
    }
    if (half !== undefined && call === 'writeAll') this.#point(`in ${what}`, half);
    const result = effect();
    this.#point(`after ${what}`);
    return result;
  }

  #point(name: string, half?: () => void): void {
    this.points += 1;
    this.#countdown -= 1;
    if (this.#countdown > 0) return;
    half?.();
    this.#dead = true;
    this.crashes.set(name, (this.crashes.get(name) ?? 0) + 1);
    throw new Crash(name);
  }

  #live(): void {
    if (this.#dead) throw new Crash('the process has ended');
  }

  #rename(change: NameChange): void {
    apply(this.#names, change);
    this.#pendingNames.push(change);
  }

  #inode(file: string): Inode {
    const inode = this.#names.get(path.basename(file));
    if (inode === undefined) throw new Error(`the model of the disk does not know ${file}`);
    return inode;
  }

  #openInode(fd: number): Inode {
    this.#live();
    const inode = this.#open.get(fd);
    if (inode === undefined) throw new Error(`no open file ${fd}`);
    return inode;
  }

  #nameOf(inode: Inode): string {
    for (const [name, other] of this.#names) if (other === inode) return name;
    return 'removed';
  }

  #losePower(): void {
    const inOrder = this.#random() < 0.5;
    const kept = Math.floor(this.#random() * (this.#pendingNames.length + 1));
    const lost = new Set<Inode | string>();
    for (const [at, change] of this.#pendingNames.entries()) {
      const about = [
        change.name,
        ...(change.from === undefined ? [] : [change.from]),
        ...(change.inode ? [change.inode] : []),
      ];
      const before = this.#durableNames.get(change.name);
      if (before !== undefined) about.push(before);
      const isLost = inOrder ? at >= kept : about.some((key) => lost.has(key)) || this.#random() < 0.5;
      if (isLost) for (const key of about) lost.add(key);
      else apply(this.#durableNames, change);
    }
    this.#pendingNames = [];
    this.#names = new Map(this.#durableNames);
    for (const inode of new Set(this.#names.values())) this.#loseData(inode);
    for (const name of fs.readdirSync(this.directory)) fs.rmSync(path.join(this.directory, name));
    for (const [name, { durable }] of this.#names) fs.writeFileSync(path.join(this.directory, name), durable);
  }

  #loseData(inode: Inode): void {
    for (const change of inode.pending) {
      const fate = this.#random();
      if (fate < 0.35) continue;
      if (fate < 0.7 || change.bytes === undefined) inode.durable = applied(inode.durable, change);
      else inode.durable = this.#torn(inode.durable, change.at, change.bytes);
    }
    inode.pending = [];
  }

  /** Some sectors of a write; the file may have grown for it or not. */
  #torn(before: Buffer, at: number, bytes: Buffer): Buffer {
    let after = before;
    if (this.#random() < 0.5) after = applied(after, { at: at + bytes.length, bytes: Buffer.alloc(0) });
    for (let from = 0; from < bytes.length;) {
      const to = Math.min(bytes.length, from + SECTOR - ((at + from) % SECTOR));
      if (this.#random() < 0.5) after = applied(after, { at: at + from, bytes: bytes.subarray(from, to) });
      from = to;
    }
    return after;
  }
}

function apply(names: Map<string, Inode>, { name, inode, from }: NameChange): void {
  if (from !== undefined) names.delete(from);
  if (inode === undefined) names.delete(name);
  else names.set(name, inode);
}

function applied(before: Buffer, { at, bytes }: DataChange): Buffer {
  if (bytes === undefined) return Buffer.from(before.subarray(0, at));
  const after = Buffer.alloc(Math.max(before.length, at + bytes.length));
  before.copy(after);
  bytes.copy(after, at);
  return after;
}

function kindOf(file: string): string {
  const name = path.basename(file);
  if (ordinalOf(name) !== undefined) return 'segment';
  if (isSpare(name)) return 'spare';
  return name === 'epochs' || name === 'probe.tmp' ? name : 'directory';
}
