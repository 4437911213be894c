import path from 'node:path';
import type { WalFileSystem } from './file-system.js';
import { isSpare } from './format.js';

/** Enough that a few groups fit when it says yes. */
const PROBE_BYTES = 4 * 1024 * 1024;

/** Finds out whether a disk that refused a write takes one again, without waiting for an event to risk. */
export class SpaceProbe {
  readonly #fs: WalFileSystem;
  readonly #directory: string;
  readonly #file: string;

  constructor(fs: WalFileSystem, directory: string) {
    this.#fs = fs;
    this.#directory = directory;
    this.#file = path.join(directory, 'probe.tmp');
  }

  /**
   * Undefined where a write and its sync succeeded, else what the disk said. A disk that refuses gets its spares back: on one
   * that is full they may be all that the log itself can free.
   */
  try(): unknown {
    const refusal = this.#attempt();
    return refusal !== undefined && this.#removeSpares() ? this.#attempt() : refusal;
  }

  #attempt(): unknown {
    this.#remove();
    try {
      this.#write();
      return undefined;
    } catch (error) {
      return error;
    } finally {
      this.#remove();
    }
  }

  #write(): void {
    const fd = this.#fs.create(this.#file);
    try {
      this.#fs.writeAll(fd, [Buffer.alloc(PROBE_BYTES)], 0);
      this.#fs.syncData(fd);
    } finally {
      this.#fs.close(fd);
    }
  }

  #remove(): void {
    try {
      this.#fs.remove(this.#file);
    } catch {
      // Not there, or not removable: `create` reports what matters.
    }
  }

  /** Whether there were any. */
  #removeSpares(): boolean {
    let removed = false;
    try {
      for (const name of this.#fs.list(this.#directory).filter(isSpare)) {
        this.#fs.remove(path.join(this.#directory, name));
        removed = true;
      }
    } catch {
      // A disk that refuses this, too: the next attempt tells.
    }
    return removed;
  }
}
