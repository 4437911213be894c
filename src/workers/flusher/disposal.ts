import fs from 'node:fs';
import path from 'node:path';
import { nodeFileSystem, type WalFileSystem } from './wal/file-system.js';
import { isSpare, ordinalOf, segmentName, spareName } from './wal/format.js';

/**
 * What becomes of a confirmed segment's file: kept for a while where the operator wants that, else written over by the log
 * thread as a spare, else removed. None of this need be durable: a segment that comes back is sent again, and counts once.
 */
export interface DisposalOptions {
  readonly fs?: WalFileSystem;
  readonly directory: string;
  /** Confirmed segments are kept this long; 0: not at all. */
  readonly keepMs: number;
  /** Spares and kept segments stay within shares of it. */
  readonly walMaxBytes: number;
}

/** One is written to, one is shipped, one waits: more spares are never all used. */
const SPARES_MAX = 4;
/** Spares are disk that the log's limit does not count. */
const SPARE_SHARE = 1 / 4;

export function keptDirectory(walDirectory: string): string {
  return path.join(walDirectory, 'kept');
}

export class Disposal {
  readonly #options: DisposalOptions;

  constructor(options: DisposalOptions) {
    this.#options = options;
    this.purgeKept();
  }

  dispose(ordinal: number): void {
    const { fs: disk = nodeFileSystem, directory, keepMs } = this.#options;
    const file = path.join(directory, segmentName(ordinal));
    if (keepMs > 0) {
      this.#keep(file);
      this.purgeKept();
      return;
    }
    if (this.#takesSpare(disk.size(file))) disk.rename(file, path.join(directory, spareName()));
    else disk.remove(file);
  }

  /** Removes kept segments that are too old, and the oldest of those that are too many. */
  purgeKept(): void {
    const { directory, keepMs, walMaxBytes } = this.#options;
    const kept = keptDirectory(directory);
    if (!fs.existsSync(kept)) return;
    const files = fs.readdirSync(kept).filter((name) => ordinalOf(name) !== undefined);
    let total = 0;
    for (const name of files.toSorted().toReversed()) {
      const file = path.join(kept, name);
      const { size, mtimeMs } = fs.statSync(file);
      total += size;
      if (total > walMaxBytes || Date.now() - mtimeMs > keepMs) fs.rmSync(file);
    }
  }

  #keep(file: string): void {
    const kept = keptDirectory(this.#options.directory);
    fs.mkdirSync(kept, { recursive: true, mode: 0o700 });
    fs.renameSync(file, path.join(kept, path.basename(file)));
  }

  #takesSpare(size: number): boolean {
    const { fs: disk = nodeFileSystem, directory, walMaxBytes } = this.#options;
    const spares = disk.list(directory).filter(isSpare);
    if (spares.length >= SPARES_MAX) return false;
    const bytes = spares.reduce((sum, name) => sum + sizeOf(path.join(directory, name)), size);
    return bytes <= walMaxBytes * SPARE_SHARE;
  }
}

/** The log thread may be writing over it at this moment, under another name. */
function sizeOf(file: string): number {
  return fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
