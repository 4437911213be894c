import fs from 'node:fs';
import { workerData } from 'node:worker_threads';
import type { ChannelMemory } from '../../src/shared/channel.js';
import { createDoorbell, Doorbell } from '../../src/shared/doorbell.js';
import { RingProducer } from '../../src/shared/ring.js';
import { RowsWriter } from '../../src/workers/encoder/rows-writer.js';

/**
 * The log thread beside an encoder that always has more for it: each sync finds another row in that encoder's ring, so the
 * log never gathers in vain. Started with the LogWorkerData and the encoder's `busy` channel.
 */

const { busy } = workerData as { readonly busy: ChannelMemory };
const rows = new RowsWriter(new RingProducer(busy.rows), new Doorbell(createDoorbell()));
const { fdatasyncSync } = fs;

fs.fdatasyncSync = (fd) => {
  rows.append(Buffer.from('one more'), 1);
  rows.publish();
  fdatasyncSync(fd);
};

await import('../../src/workers/flusher/log-worker.js');
