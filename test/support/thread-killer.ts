import fs from 'node:fs';
import net from 'node:net';
import { isMainThread, workerData } from 'node:worker_threads';

/**
 * Preloaded with `--import`: ends the log thread (FAULT_THREAD=log) at its nth sync, before or behind it, or the shipper or cells thread
 * at its nth write to ClickHouse, at once and past every handler, as a fault in native code would.
 */

const { FAULT_THREAD: thread, FAULT_STEPS: steps = '1' } = process.env;
let left = Number(steps);

function step(): void {
  left -= 1;
  if (left === 0) process.exit(1);
}

function isThread(member: string): boolean {
  return !isMainThread && typeof workerData === 'object' && workerData !== null && member in workerData;
}

if (thread === 'log' && isThread('wakeMain')) {
  const { fdatasyncSync } = fs;
  const before = left % 2 === 0;
  fs.fdatasyncSync = (fd) => {
    if (before) step();
    fdatasyncSync(fd);
    if (!before) step();
  };
}

if ((thread === 'shipper' && isThread('wakes')) || (thread === 'cells' && isThread('gauge'))) {
  const socket = net.Socket.prototype as { write: (...parameters: unknown[]) => boolean };
  const { write } = socket;
  socket.write = function (this: unknown, ...parameters) {
    step();
    return write.apply(this, parameters);
  };
}
