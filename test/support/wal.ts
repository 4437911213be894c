import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { nodeFileSystem, type WalFileSystem } from '../../src/workers/flusher/wal/file-system.js';

/** A directory that is gone with its test. */
export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'penstock-unit-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export type DiskCall = Exclude<keyof WalFileSystem, 'list' | 'size'>;

/** What befalls a call: an error before it takes effect, or a write that gets only some of its bytes to the file. */
export interface Fault {
  readonly code: 'ENOSPC' | 'EIO' | 'EMFILE' | 'EACCES';
  /** Of `writeAll`: bytes that reach the file before the error. */
  readonly shortBy?: number;
}

export function diskError(code: string, call: string): Error {
  return Object.assign(new Error(`${code}: a fault of the test, ${call}`), { code, syscall: call });
}

/** The disk with faults: `plan` is asked before every call. Counts what was synced, file by file. */
export class FaultyFileSystem implements WalFileSystem {
  plan: (call: DiskCall, nth: number) => Fault | undefined = () => undefined;
  readonly calls: DiskCall[] = [];
  readonly openFiles = new Map<number, string>();
  readonly #syncedBytes = new Map<string, number>();

  /** Bytes of a file that a sync has covered. */
  syncedBytes(file: string): number {
    return this.#syncedBytes.get(file) ?? 0;
  }

  create(file: string): number {
    this.#meet('create');
    const fd = nodeFileSystem.create(file);
    this.openFiles.set(fd, file);
    return fd;
  }

  reopen(file: string): number {
    this.#meet('reopen');
    const fd = nodeFileSystem.reopen(file);
    this.openFiles.set(fd, file);
    return fd;
  }

  rename(from: string, to: string): void {
    this.#meet('rename');
    nodeFileSystem.rename(from, to);
    for (const [fd, file] of this.openFiles) if (file === from) this.openFiles.set(fd, to);
  }

  appendLine(file: string, line: string): void {
    this.#meet('appendLine');
    nodeFileSystem.appendLine(file, line);
  }

  writeAll(fd: number, pieces: readonly Uint8Array[], position: number): void {
    const fault = this.#next('writeAll');
    if (fault === undefined) {
      nodeFileSystem.writeAll(fd, pieces, position);
      return;
    }
    const whole = Buffer.concat(pieces);
    if (fault.shortBy !== undefined) {
      nodeFileSystem.writeAll(fd, [whole.subarray(0, Math.max(0, whole.length - fault.shortBy))], position);
    }
    throw diskError(fault.code, 'writeAll');
  }

  syncData(fd: number): void {
    this.#meet('syncData');
    nodeFileSystem.syncData(fd);
    const file = this.openFiles.get(fd) ?? '';
    this.#syncedBytes.set(file, nodeFileSystem.size(file));
  }

  truncate(fd: number, length: number): void {
    this.#meet('truncate');
    nodeFileSystem.truncate(fd, length);
  }

  close(fd: number): void {
    const fault = this.#next('close');
    nodeFileSystem.close(fd);
    this.openFiles.delete(fd);
    if (fault !== undefined) throw diskError(fault.code, 'close');
  }

  syncDirectory(directory: string): void {
    this.#meet('syncDirectory');
    nodeFileSystem.syncDirectory(directory);
  }

  remove(file: string): void {
    this.#meet('remove');
    nodeFileSystem.remove(file);
  }

  list(directory: string): string[] {
    return nodeFileSystem.list(directory);
  }

  size(file: string): number {
    return nodeFileSystem.size(file);
  }

  /** What the end of a process does. */
  closeAll(): void {
    for (const fd of this.openFiles.keys()) nodeFileSystem.close(fd);
    this.openFiles.clear();
  }

  #next(call: DiskCall): Fault | undefined {
    const fault = this.plan(call, this.calls.filter((made) => made === call).length);
    this.calls.push(call);
    return fault;
  }

  #meet(call: DiskCall): void {
    const fault = this.#next(call);
    if (fault !== undefined) throw diskError(fault.code, call);
  }
}
