import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { createFlow } from '../../../../../src/shared/channel.js';
import { createCounters } from '../../../../../src/shared/counters.js';
import { EPOCHS_FILE, Log } from '../../../../../src/workers/flusher/wal/log.js';
import { silentLog } from '../../../../support/clickhouse.js';
import { FaultyFileSystem, temporaryDirectory } from '../../../../support/wal.js';

const PAYLOAD = Buffer.alloc(16, 1);

function open(directory: string, disk = new FaultyFileSystem()): Log {
  return new Log(disk, directory, createFlow(createCounters()), silentLog);
}

function append(log: Log, rows: number): void {
  log.append([PAYLOAD], PAYLOAD.length, rows);
}

/** The lines about epochs, times left out. */
function lines(directory: string): string[] {
  const text = fs.readFileSync(path.join(directory, EPOCHS_FILE), 'utf8');
  return text.split('\n').flatMap((line) => (line === '' ? [] : [line.replace(/ [^ ]+$/, '')]));
}

test('an orderly end notes how many rows the epoch had, and one without rows needs no note', (t) => {
  const directory = temporaryDirectory(t);
  const log = open(directory);
  append(log, 3);
  log.seal();
  append(log, 4);
  log.close();
  const [epoch = ''] = lines(directory);
  assert.deepEqual(lines(directory), [epoch, `${epoch} rows 7`]);
  open(temporaryDirectory(t)).close();
});

test('the start after a crash notes how far the last segments go, an empty one at the end or not', (t) => {
  for (const isPrepared of [false, true]) {
    const directory = temporaryDirectory(t);
    const log = open(directory);
    append(log, 3);
    append(log, 5);
    if (isPrepared) {
      log.seal();
      log.prepare();
    }
    const [epoch = ''] = lines(directory);
    open(directory);
    assert.deepEqual(lines(directory).slice(0, 2), [epoch, `${epoch} rows 8`]);
    assert.equal(lines(directory).length, 3);
  }
});

test('after a refusal of the disk the epoch that ended is noted with what was acknowledged of it', (t) => {
  const directory = temporaryDirectory(t);
  const disk = new FaultyFileSystem();
  const log = open(directory, disk);
  append(log, 3);
  disk.plan = (call) => (call === 'syncData' ? { code: 'EIO' } : undefined);
  assert.throws(() => append(log, 9), /EIO/);
  disk.plan = () => undefined;
  append(log, 2);
  log.close();
  const [first = '', , second = ''] = lines(directory);
  assert.deepEqual(lines(directory), [first, `${first} rows 3`, second, `${second} rows 2`]);
});

test('a note that cannot be written stops nothing', (t) => {
  const directory = temporaryDirectory(t);
  append(open(directory), 3);
  const disk = new FaultyFileSystem();
  disk.plan = (call, nth) => (call === 'appendLine' && nth !== 1 ? { code: 'EIO' } : undefined);
  const log = open(directory, disk);
  append(log, 1);
  log.close();
});

test('a log that begins on a full disk takes nothing before its epoch is noted, and everything after', (t) => {
  const directory = temporaryDirectory(t);
  append(open(directory), 3);
  const before = lines(directory);
  const disk = new FaultyFileSystem();
  disk.plan = (call) => (call === 'appendLine' ? { code: 'ENOSPC' } : undefined);
  const log = open(directory, disk);
  assert.throws(() => log.prepare(), /ENOSPC/);
  assert.throws(() => append(log, 1), /ENOSPC/);
  assert.deepEqual(lines(directory), before);
  disk.plan = () => undefined;
  append(log, 2);
  log.close();
  const [epoch = '', end = ''] = lines(directory).slice(before.length);
  assert.equal(end, `${epoch} rows 2`);
});

test('a segment never takes a name under which another is kept or was set aside', (t) => {
  for (const [folder, name] of [
    ['kept', '0000000000000041.wal'],
    ['damaged', '0000000000000041.wal.64'],
  ] as const) {
    const directory = temporaryDirectory(t);
    fs.mkdirSync(path.join(directory, folder));
    fs.writeFileSync(path.join(directory, folder, name), '');
    const log = open(directory);
    append(log, 1);
    log.close();
    assert.ok(fs.existsSync(path.join(directory, '0000000000000042.wal')), folder);
  }
});
