import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';

/**
 * Preloaded with `--import`: in worker threads, whatever stands behind the heads of the segment files BAD_SECTORS_IN cannot
 * be read: EIO, as from a disk with bad sectors.
 */

const names = (process.env['BAD_SECTORS_IN'] ?? '').split(',').filter((name) => name !== '');
const HEAD_BYTES = 64;

if (!isMainThread && names.length > 0) {
  const bad = new Set<number>();
  const { openSync, closeSync, readSync } = fs;
  fs.openSync = (file, flags, mode) => {
    const fd = openSync(file, flags, mode);
    if (names.some((name) => String(file).endsWith(name))) bad.add(fd);
    return fd;
  };
  fs.closeSync = (fd) => {
    bad.delete(fd);
    closeSync(fd);
  };
  const read = readSync as (...parameters: unknown[]) => number;
  const readWithFaults = (...parameters: unknown[]): number => {
    const [fd, , , , position] = parameters;
    if (bad.has(fd as number) && Number(position) >= HEAD_BYTES)
      throw Object.assign(new Error('EIO: a fault of the test, read'), { code: 'EIO', syscall: 'read' });
    return read(...parameters);
  };
  fs.readSync = readWithFaults;
}
