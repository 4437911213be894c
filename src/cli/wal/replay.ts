import fs from 'node:fs';
import path from 'node:path';
import { DataDirLock } from '../../main/data-dir-lock.js';
import { createFlow, FLOW_SLOT } from '../../shared/channel.js';
import type { Config } from '../../shared/config.js';
import { Counters, createCounters } from '../../shared/counters.js';
import { deadLetterDirectory } from '../../workers/flusher/dead-letter.js';
import { keptDirectory } from '../../workers/flusher/disposal.js';
import { damagedDirectory } from '../../workers/flusher/set-aside.js';
import { Shipper } from '../../workers/flusher/shipper.js';
import { segmentName } from '../../workers/flusher/wal/format.js';
import { bringSchema, commandLog, withClickHouse } from '../clickhouse-access.js';
import { count, EXIT_FINDING, EXIT_WELL, formatCount, print, printJson } from '../console.js';
import type { Place } from './inspect.js';
import { listDirectory, segmentFiles } from './segment-files.js';

/**
 * `penstock wal replay`: ships what an instance has left that will never come back, with the shipper that it would have used:
 * the same bytes under the same tokens, so that whatever it had sent already counts once. Holds the lock of the directory
 * meanwhile, and gives a segment up only when it is confirmed.
 */

interface Options {
  readonly json: boolean;
  /** Confirmed segments are moved to `kept/`. */
  readonly keep: boolean;
}

interface Replayed {
  readonly segments: number;
  readonly rows: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly deadLetters: number;
  /** Files in damaged/ that were not there before. */
  readonly setAside: number;
  /** Segments that are still there. */
  readonly left: number;
}

const PROGRESS_MS = 1_000;

export async function replay(place: Place, config: Config, { json, keep }: Options): Promise<number> {
  const lock = await DataDirLock.acquire(place.dataDir);
  let result: Replayed;
  try {
    const log = commandLog(config);
    // The lock of the configured data directory, where that is the one to be replayed, serves its embedded ClickHouse too.
    const isOwn = fs.realpathSync(place.dataDir) === realPath(config.dataDir);
    result = await withClickHouse(
      config,
      log,
      async (client) => {
        const database = config.clickhouseDatabase;
        await bringSchema(client, database, log);
        const flow = createFlow(createCounters());
        const files = segmentFiles(place.walDirectory);
        const next = (files.at(-1)?.ordinal ?? 0) + 1;
        const slots = new Int32Array(flow.slots);
        Atomics.store(slots, FLOW_SLOT.firstOrdinal, next);
        Atomics.store(slots, FLOW_SLOT.activeOrdinal, next);
        const shipper = new Shipper({
          client,
          database,
          walDirectory: place.walDirectory,
          deadLetterDirectory: deadLetterDirectory(place.dataDir),
          deadLetterMaxBytes: config.deadLetterMaxBytes,
          disposal: { dispose: (ordinal) => dispose(place.walDirectory, ordinal, keep) },
          flow,
          log,
        });
        return shipAll(shipper, new Counters(flow.counters), place);
      },
      isOwn ? lock : undefined,
    );
  } finally {
    lock.release();
  }
  if (json) await printJson(result);
  else await print(resultText(result));
  const { left, deadLetters, setAside } = result;
  return left + deadLetters + setAside === 0 ? EXIT_WELL : EXIT_FINDING;
}

async function shipAll(shipper: Shipper, counters: Counters, place: Place): Promise<Replayed> {
  const total = shipper.pending;
  const asideBefore = listDirectory(damagedDirectory(place.walDirectory)).length;
  const from = performance.now();
  const seconds = (): number => (performance.now() - from) / 1000;
  const rows = (): number => counters.get('shippedRows');
  const timer = setInterval(() => {
    const rate = formatCount(rows() / seconds());
    process.stderr.write(
      `${total - shipper.pending} of ${count(total, 'segment')}, ${count(rows(), 'row')}, ${rate} rows/s\n`,
    );
  }, PROGRESS_MS);
  const stop = (): void => shipper.stop();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  let bytes = 0;
  try {
    while (await shipper.shipNext());
    bytes = counters.get('walBytesFreed');
  } finally {
    clearInterval(timer);
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
  return {
    segments: total - shipper.pending,
    rows: rows(),
    bytes,
    seconds: seconds(),
    deadLetters: counters.get('deadLetters'),
    setAside: listDirectory(damagedDirectory(place.walDirectory)).length - asideBefore,
    left: shipper.pending,
  };
}

function dispose(walDirectory: string, ordinal: number, keep: boolean): void {
  const file = path.join(walDirectory, segmentName(ordinal));
  if (!keep) {
    fs.rmSync(file);
    return;
  }
  fs.mkdirSync(keptDirectory(walDirectory), { recursive: true, mode: 0o700 });
  fs.renameSync(file, path.join(keptDirectory(walDirectory), path.basename(file)));
}

function realPath(directory: string): string {
  return fs.existsSync(directory) ? fs.realpathSync(directory) : directory;
}

function resultText({ segments, rows, seconds, deadLetters, setAside, left }: Replayed): string {
  const lines = [
    `${count(segments, 'segment')} shipped: ${count(rows, 'row')} in ${seconds.toFixed(1)} s (${formatCount(rows / Math.max(seconds, 0.001))} rows/s)`,
  ];
  if (deadLetters > 0) lines.push(`! ${count(deadLetters, 'event')} refused: see "penstock dead-letter ls"`);
  if (setAside > 0) lines.push(`! ${count(setAside, 'file')} set aside in damaged/: see the messages above`);
  if (left > 0) lines.push(`! ${count(left, 'segment')} left; run it again`);
  return lines.map((line) => `${line}\n`).join('');
}
