import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { createFlow } from '../../../../src/shared/channel.js';
import { createCounters } from '../../../../src/shared/counters.js';
import { Disposal } from '../../../../src/workers/flusher/disposal.js';
import { isSpare, ordinalOf } from '../../../../src/workers/flusher/wal/format.js';
import { Log } from '../../../../src/workers/flusher/wal/log.js';
import { silentLog } from '../../../support/clickhouse.js';
import { FaultyFileSystem, temporaryDirectory } from '../../../support/wal.js';

const PAYLOAD = Buffer.alloc(4096, 1);
const WAL_MAX_BYTES = 1024 * 1024;

/** Directories are listed in whatever order the file system likes. */
class ListedDisk extends FaultyFileSystem {
  readonly #isReversed: boolean;

  constructor(isReversed: boolean) {
    super();
    this.#isReversed = isReversed;
  }

  override list(directory: string): string[] {
    const names = super.list(directory).toSorted();
    return this.#isReversed ? names.toReversed() : names;
  }
}

function files(directory: string, is: (name: string) => boolean): string[] {
  return fs.readdirSync(directory).filter(is).toSorted();
}

const isSegment = (name: string): boolean => ordinalOf(name) !== undefined;

/** One life of a log: so many segments, all of them confirmed once the last is sealed. */
function live(directory: string, disk: FaultyFileSystem, segments: number): void {
  const log = new Log(disk, directory, createFlow(createCounters()), silentLog);
  const disposal = new Disposal({ fs: disk, directory, keepMs: 0, walMaxBytes: WAL_MAX_BYTES });
  for (let i = 0; i < segments; i += 1) {
    log.append([PAYLOAD], PAYLOAD.length, 1);
    log.seal();
  }
  log.close();
  for (const name of files(directory, isSegment)) disposal.dispose(ordinalOf(name) ?? 0);
  disk.closeAll();
}

test('a spare is never lost to another of the same name, though ordinals begin again with each empty log', (t) => {
  for (const isReversed of [false, true]) {
    const directory = temporaryDirectory(t);
    const disk = new ListedDisk(isReversed);
    live(directory, disk, 3);
    assert.equal(files(directory, isSpare).length, 3);
    for (let round = 0; round < 3; round += 1) {
      // As many spares are written over as segments are made.
      live(directory, disk, 1);
      assert.equal(files(directory, isSpare).length, 3, `round ${round}, listed in reverse: ${String(isReversed)}`);
      assert.deepEqual(files(directory, isSegment), []);
    }
  }
});

test('confirmed segments become spares up to their number and their share of the log’s limit, the rest is removed', (t) => {
  const directory = temporaryDirectory(t);
  live(directory, new FaultyFileSystem(), 10);
  const few = files(directory, isSpare).length;
  assert.ok(few > 0 && few < 10);
  const small = temporaryDirectory(t);
  const disk = new FaultyFileSystem();
  const log = new Log(disk, small, createFlow(createCounters()), silentLog);
  log.append([Buffer.alloc(8192)], 8192, 1);
  log.close();
  new Disposal({ fs: disk, directory: small, keepMs: 0, walMaxBytes: 16 * 1024 }).dispose(1);
  assert.deepEqual([files(small, isSpare), files(small, isSegment)], [[], []]);
});

test('a segment that is to be kept is moved aside, and goes when its time is over', (t) => {
  const directory = temporaryDirectory(t);
  const disk = new FaultyFileSystem();
  const log = new Log(disk, directory, createFlow(createCounters()), silentLog);
  log.append([PAYLOAD], PAYLOAD.length, 1);
  log.close();
  const [name = ''] = files(directory, isSegment);
  const options = { fs: disk, directory, keepMs: 3_600_000, walMaxBytes: WAL_MAX_BYTES };
  new Disposal(options).dispose(1);
  const kept = path.join(directory, 'kept', name);
  assert.ok(fs.existsSync(kept));
  const twoHoursAgo = new Date(Date.now() - 7_200_000);
  fs.utimesSync(kept, twoHoursAgo, twoHoursAgo);
  new Disposal(options).purgeKept();
  assert.ok(!fs.existsSync(kept));
});
