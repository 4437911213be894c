import assert from 'node:assert/strict';
import fs, { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { nodeFileSystem, walDirectory } from '../../../../../src/workers/flusher/wal/file-system.js';
import { diskError, temporaryDirectory } from '../../../../support/wal.js';

const PIECES = ['head', '', 'a', 'rows of some length', 'end'].map((text) => Buffer.from(text));
const WHOLE = Buffer.concat(PIECES).toString();

test('a write that the system cuts short anywhere is finished', (t) => {
  const directory = temporaryDirectory(t);
  const { writevSync, writeSync } = fs;
  for (let written = 0; written <= WHOLE.length; written += 1) {
    const file = join(directory, String(written));
    const fd = nodeFileSystem.create(file);
    const vector = t.mock.method(fs, 'writevSync', (to: number, _pieces: readonly Uint8Array[], position: number) =>
      writeSync(to, Buffer.from(WHOLE), 0, written, position),
    );
    // The rest goes out a few bytes at a time.
    const rest = t.mock.method(
      fs,
      'writeSync',
      (to: number, from: Uint8Array, offset: number, length: number, at: number) =>
        writeSync(to, from, offset, Math.min(length, 3), at),
    );
    nodeFileSystem.writeAll(fd, PIECES, 2);
    vector.mock.restore();
    rest.mock.restore();
    nodeFileSystem.close(fd);
    assert.equal(readFileSync(file, 'latin1'), `\0\0${WHOLE}`);
  }
  assert.equal(fs.writevSync, writevSync);
});

test('an error that cut a write short shows itself', (t) => {
  const fd = nodeFileSystem.create(join(temporaryDirectory(t), 'file'));
  const { writeSync } = fs;
  t.mock.method(fs, 'writevSync', (to: number) => writeSync(to, WHOLE.slice(0, 6), 0));
  t.mock.method(fs, 'writeSync', () => {
    throw diskError('ENOSPC', 'write');
  });
  assert.throws(() => nodeFileSystem.writeAll(fd, PIECES, 0), { code: 'ENOSPC' });
  nodeFileSystem.close(fd);
});

test('more pieces than one system call takes are written in order', (t) => {
  const file = join(temporaryDirectory(t), 'file');
  const fd = nodeFileSystem.create(file);
  const pieces = Array.from({ length: 3000 }, (_, i) => Buffer.from(`${i},`));
  nodeFileSystem.writeAll(fd, pieces, 0);
  nodeFileSystem.syncData(fd);
  nodeFileSystem.close(fd);
  assert.ok(readFileSync(file).equals(Buffer.concat(pieces)));
});

test('a file that exists is not created again, and nobody else may read the new one', (t) => {
  const file = join(temporaryDirectory(t), 'file');
  nodeFileSystem.close(nodeFileSystem.create(file));
  assert.equal(fs.statSync(file).mode & 0o777, 0o600);
  assert.throws(() => nodeFileSystem.create(file), { code: 'EEXIST' });
  nodeFileSystem.remove(file);
  nodeFileSystem.close(nodeFileSystem.create(file));
  nodeFileSystem.syncDirectory(join(file, '..'));
});

test('a line that the system takes a few bytes at a time is whole', (t) => {
  const file = join(temporaryDirectory(t), 'lines');
  const { writeSync } = fs;
  t.mock.method(fs, 'writeSync', (to: number, from: Uint8Array, offset: number, length: number) =>
    writeSync(to, from, offset, Math.min(length, 3)),
  );
  nodeFileSystem.appendLine(file, 'the first line');
  nodeFileSystem.appendLine(file, 'the second line');
  assert.deepEqual(readFileSync(file, 'utf8').split('\n').filter(Boolean), ['the first line', 'the second line']);
});

test('a line that a full disk cuts short is gone, and where it cannot be taken back it spoils none behind it', (t) => {
  const { writeSync, ftruncateSync } = fs;
  for (const mayTruncate of [true, false]) {
    for (let room = 0; room < 'half a line\n'.length; room += 1) {
      const file = join(temporaryDirectory(t), 'lines');
      nodeFileSystem.appendLine(file, 'before');
      let left = room;
      const write = t.mock.method(fs, 'writeSync', (to: number, from: Uint8Array, offset: number, length: number) => {
        if (left === 0) throw diskError('ENOSPC', 'write');
        const taken = writeSync(to, from, offset, Math.min(length, left));
        left -= taken;
        return taken;
      });
      const truncate = t.mock.method(fs, 'ftruncateSync', (fd: number, length: number) => {
        if (!mayTruncate) throw diskError('EIO', 'ftruncate');
        ftruncateSync(fd, length);
      });
      assert.throws(() => nodeFileSystem.appendLine(file, 'half a line'), { code: 'ENOSPC' });
      write.mock.restore();
      truncate.mock.restore();
      if (mayTruncate) assert.equal(readFileSync(file, 'utf8'), 'before\n');
      nodeFileSystem.appendLine(file, 'behind');
      const lines = readFileSync(file, 'utf8').split('\n');
      assert.deepEqual(
        [lines.includes('before'), lines.includes('behind'), lines.includes('half a line')],
        [true, true, false],
      );
    }
  }
});

test('the log stands in a folder of its own in the data directory', () => {
  assert.equal(walDirectory('/data'), '/data/wal');
});
