import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SpaceProbe } from '../../../../../src/workers/flusher/wal/space-probe.js';
import { FaultyFileSystem, temporaryDirectory } from '../../../../support/wal.js';

test('a disk that takes a write and its sync is said to, and the probe leaves nothing behind', (t) => {
  const directory = temporaryDirectory(t);
  const fs = new FaultyFileSystem();
  const probe = new SpaceProbe(fs, directory);
  assert.equal(probe.try(), undefined);
  assert.equal(probe.try(), undefined);
  assert.deepEqual([fs.list(directory), fs.openFiles.size], [[], 0]);
  assert.ok(fs.calls.includes('syncData'));
});

test('whatever the disk refuses is returned, never thrown, and the probe leaves nothing behind', (t) => {
  for (const failing of ['create', 'writeAll', 'syncData', 'close'] as const) {
    const directory = temporaryDirectory(t);
    const fs = new FaultyFileSystem();
    fs.plan = (call) => (call === failing ? { code: 'ENOSPC', shortBy: 100 } : undefined);
    const refusal = new SpaceProbe(fs, directory).try();
    assert.equal((refusal as NodeJS.ErrnoException | undefined)?.code, 'ENOSPC', failing);
    assert.deepEqual([fs.list(directory), fs.openFiles.size], [[], 0], failing);
  }
});

test('a probe that a killed process has left is in nobody’s way', (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'probe.tmp'), 'left');
  const fs = new FaultyFileSystem();
  assert.equal(new SpaceProbe(fs, directory).try(), undefined);
  assert.deepEqual(fs.list(directory), []);
});

test('a full disk gets its spares back, and has room then', (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, '0000000000000001.spare'), 'confirmed');
  writeFileSync(join(directory, '0000000000000002.wal'), 'not confirmed');
  const fs = new FaultyFileSystem();
  const isFull = (): boolean => fs.list(directory).some((name) => name.endsWith('.spare'));
  fs.plan = (call) => (call === 'writeAll' && isFull() ? { code: 'ENOSPC' } : undefined);
  assert.equal(new SpaceProbe(fs, directory).try(), undefined);
  assert.deepEqual(fs.list(directory), ['0000000000000002.wal']);
});
