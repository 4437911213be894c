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
    const [fd, buffer, offset, length, position] = parameters;
    if (!bad.has(fd as number)) return read(...parameters);
    // As the kernel does: what is before the bad sector is read, then comes the error.
    const readable = HEAD_BYTES - Number(position);
    if (readable <= 0)
      throw Object.assign(new Error('EIO: a fault of the test, read'), { code: 'EIO', syscall: 'read' });
    return read(fd, buffer, offset, Math.min(Number(length), readable), position);
  };
  fs.readSync = readWithFaults;
}
