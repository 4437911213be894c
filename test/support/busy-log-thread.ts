import fs from 'node:fs';
import { workerData } from 'node:worker_threads';
import type { ChannelMemory } from '../../src/shared/channel.js';
import { createDoorbell, Doorbell } from '../../src/shared/doorbell.js';
import { RingProducer } from '../../src/shared/ring.js';
import type { LogWorkerData } from '../../src/workers/flusher/log-worker.js';
import { RowsWriter } from '../../src/workers/encoder/rows-writer.js';

/**
 * The log thread beside an encoder that always has more for it: each sync finds more rows in that encoder's ring, so the
 * log never gathers in vain. Started with BusyLogData.
 */

export interface BusyLogData extends LogWorkerData {
  /** The encoder's channel. */
  readonly busy: ChannelMemory;
  /** How many rows each sync finds. */
  readonly rowsEach: number;
}

const { busy, rowsEach } = workerData as BusyLogData;
const rows = new RowsWriter(new RingProducer(busy.rows), new Doorbell(createDoorbell()));
const { fdatasyncSync } = fs;

fs.fdatasyncSync = (fd) => {
  rows.append(Buffer.from('more'), rowsEach);
  rows.publish();
  fdatasyncSync(fd);
};

await import('../../src/workers/flusher/log-worker.js');
