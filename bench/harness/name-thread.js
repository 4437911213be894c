/**
 * Preloaded into the measured service, once in each of its threads: gives the thread a name in /proc, so that CPU can be
 * told by thread (Node 20 calls all of them "node"). A preload does not know its worker's file, so the thread that starts
 * a worker leaves it the name. It does nothing after that.
 */
import { writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import threads from 'node:worker_threads';

const KEY = 'bench thread name';
const NAMES = {
  'log-worker.js': 'log',
  'ship-worker.js': 'shipper',
  'roll-worker.js': 'roller',
  'cells-worker.js': 'cells',
  'worker.js': 'encoder',
};
/** The kernel keeps no more of a name. */
const NAME_MAX = 15;

if (threads.isMainThread) {
  threads.Worker = class extends threads.Worker {
    constructor(file, options) {
      const name = path.basename(String(file));
      threads.setEnvironmentData(KEY, NAMES[name] ?? name);
      super(file, options);
    }
  };
  syncBuiltinESMExports();
} else {
  const name = threads.getEnvironmentData(KEY);
  if (typeof name === 'string') writeFileSync('/proc/thread-self/comm', name.slice(0, NAME_MAX));
}
