import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

/** A small disk of its own for a test: a tmpfs, which is full when it is. */

/** Why none can be mounted here; undefined where one can. */
export function tmpfsMissing(): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'mounting a small tmpfs needs root on Linux';
  const directory = fs.mkdtempSync('/tmp/penstock-mount-');
  const refusal = mount(directory, 1);
  if (refusal === undefined) unmount(directory);
  fs.rmSync(directory, { recursive: true });
  return refusal === undefined ? undefined : `no tmpfs can be mounted: ${refusal}`;
}

function mount(directory: string, mib: number): string | undefined {
  const { status, stderr, error } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', directory]);
  return status === 0 ? undefined : (error?.message ?? String(stderr).trim());
}

function unmount(directory: string): void {
  spawnSync('umount', ['-l', directory]);
}

export class Tmpfs {
  readonly #directory: string;
  readonly #ballast: string;

  /** Mounts it on a directory that is there. */
  constructor(directory: string, mib: number) {
    this.#directory = directory;
    this.#ballast = path.join(directory, 'ballast.tmp');
    const refusal = mount(directory, mib);
    if (refusal !== undefined) throw new Error(`cannot mount a tmpfs on ${directory}: ${refusal}`);
  }

  get freeBytes(): number {
    const { bavail, bsize } = fs.statfsSync(this.#directory);
    return bavail * bsize;
  }

  /** Takes all but so many bytes. */
  fillUpTo(freeBytes: number): void {
    const fd = fs.openSync(this.#ballast, 'a');
    try {
      for (let excess = this.freeBytes - freeBytes; excess > 0; excess = this.freeBytes - freeBytes)
        fs.writeSync(fd, Buffer.alloc(Math.min(excess, 1024 * 1024)));
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Gives back what `fillUpTo` took. */
  makeRoom(): void {
    fs.rmSync(this.#ballast);
  }

  unmount(): void {
    unmount(this.#directory);
  }
}
