import fs from 'node:fs';
import path from 'node:path';

/**
 * The log's disk: the only calls by which durable state is made, so that fault tests can stand in for them.
 * All are synchronous: the log thread has nothing else to do.
 */
export interface WalFileSystem {
  /** Creates a file that must not exist and opens it for writing. */
  create(file: string): number;
  /** Opens a file that exists for writing, its content as it is. */
  reopen(file: string): number;
  /** Replaces `to` where it exists. */
  rename(from: string, to: string): void;
  /** Writes all of `pieces` at `position`, however many system calls that takes. */
  writeAll(fd: number, pieces: readonly Uint8Array[], position: number): void;
  /** Makes the file's data, and its length, durable. */
  syncData(fd: number): void;
  truncate(fd: number, length: number): void;
  close(fd: number): void;
  /** Makes creations and removals in `directory` durable. */
  syncDirectory(directory: string): void;
  /**
   * Adds a line to a small text file, durably, or throws; between lines there may be empty ones, and what a crash or a disk
   * that refused has left of others.
   */
  appendLine(file: string, line: string): void;
  remove(file: string): void;
  list(directory: string): string[];
  size(file: string): number;
}

export const nodeFileSystem: WalFileSystem = {
  create: (file) => fs.openSync(file, 'wx', 0o600),
  reopen: (file) => fs.openSync(file, 'r+'),
  rename: (from, to) => fs.renameSync(from, to),
  writeAll(fd, pieces, position) {
    const written = fs.writevSync(fd, pieces, position);
    let total = 0;
    for (const piece of pieces) total += piece.length;
    if (written === total) return;
    // A short write: the rest byte range by byte range, where an error that shortened it shows itself.
    let skip = written;
    let at = position + written;
    for (const piece of pieces) {
      if (skip >= piece.length) {
        skip -= piece.length;
        continue;
      }
      for (let from = skip; from < piece.length;) {
        const n = fs.writeSync(fd, piece, from, piece.length - from, at);
        from += n;
        at += n;
      }
      skip = 0;
    }
  },
  syncData: (fd) => fs.fdatasyncSync(fd),
  truncate: (fd, length) => fs.ftruncateSync(fd, length),
  close: (fd) => fs.closeSync(fd),
  syncDirectory(directory) {
    const fd = fs.openSync(directory, 'r');
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  },
  appendLine(file, line) {
    const fd = fs.openSync(file, 'a', 0o600);
    try {
      const { size } = fs.fstatSync(fd);
      // What a crash has left of another line must not take this one with it.
      const bytes = Buffer.from(`${size > 0 ? '\n' : ''}${line}\n`);
      try {
        for (let from = 0; from < bytes.length;) from += fs.writeSync(fd, bytes, from, bytes.length - from);
        fs.fdatasyncSync(fd);
      } catch (error) {
        truncateWherePossible(fd, size);
        throw error;
      }
    } finally {
      fs.closeSync(fd);
    }
  },
  remove: (file) => fs.rmSync(file),
  list: (directory) => fs.readdirSync(directory),
  size: (file) => fs.statSync(file).size,
};

/** What a full disk took of a line is taken back; where it stays, the next line begins behind it all the same. */
function truncateWherePossible(fd: number, length: number): void {
  try {
    fs.ftruncateSync(fd, length);
  } catch {
    // The error that brought us here says more.
  }
}

export function walDirectory(dataDir: string): string {
  return path.join(dataDir, 'wal');
}
