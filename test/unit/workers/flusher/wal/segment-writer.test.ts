import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { SEGMENT_MAX_BYTES, SEGMENT_MAX_ROWS } from '../../../../../src/shared/limits.js';
import { frameBytes, SEGMENT_HEAD_BYTES } from '../../../../../src/workers/flusher/wal/format.js';
import { scanSegment } from '../../../../../src/workers/flusher/wal/segment-reader.js';
import { SegmentWriter } from '../../../../../src/workers/flusher/wal/segment-writer.js';
import { type DiskCall, FaultyFileSystem, temporaryDirectory } from '../../../../support/wal.js';
import { tries } from '../../../../support/property.js';

test('head and directory entry are durable before the first frame, and each frame before the next', (t) => {
  const fs = new FaultyFileSystem();
  const writer = new SegmentWriter(fs, temporaryDirectory(t), { ordinal: 1, segmentId: 1n, epoch: 2n });
  writer.append([Buffer.from('one')], 3, 1, 0n, 1);
  writer.append([Buffer.from('two')], 3, 1, 1n, 1);
  writer.seal(2n, 1);
  assert.deepEqual(fs.calls, [
    'create',
    'writeAll',
    'syncData',
    'syncDirectory',
    'writeAll',
    'syncData',
    'writeAll',
    'syncData',
    'writeAll',
    'close',
  ]);
});

test('a segment that cannot be opened leaves no file and no descriptor behind', (t) => {
  for (const failing of ['create', 'writeAll', 'syncData', 'syncDirectory'] as const) {
    const fs = new FaultyFileSystem();
    fs.plan = (call) => (call === failing ? { code: 'ENOSPC', shortBy: 30 } : undefined);
    const directory = temporaryDirectory(t);
    assert.throws(() => new SegmentWriter(fs, directory, { ordinal: 1, segmentId: 1n, epoch: 2n }), { code: 'ENOSPC' });
    assert.deepEqual(fs.list(directory), [], failing);
    assert.equal(fs.openFiles.size, 0, failing);
  }
});

test('pieces of any number and length are one payload', (t) => {
  const directory = temporaryDirectory(t);
  let ordinal = 0;
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 30 }), { minLength: 1, maxLength: 20 }), (pieces) => {
      ordinal += 1;
      const writer = new SegmentWriter(new FaultyFileSystem(), directory, { ordinal, segmentId: 1n, epoch: 2n });
      const whole = Buffer.concat(pieces);
      writer.append(pieces, whole.length, 1, 0n, 1);
      assert.equal(writer.bytes, SEGMENT_HEAD_BYTES + frameBytes(whole.length));
      assert.equal(statSync(writer.file).size, writer.bytes);
      writer.abandon();
      const read: Buffer[] = [];
      scanSegment(writer.file, (payload) => read.push(Buffer.from(payload)));
      assert.deepEqual(read, [whole]);
    }),
    tries(50),
  );
});

test('what failed to be written or synced is cut off, and what was synced before stays', (t) => {
  for (const failing of ['writeAll', 'syncData'] as const) {
    for (const shortBy of [1, 50, 79, 80, 1000]) {
      const fs = new FaultyFileSystem();
      const writer = new SegmentWriter(fs, temporaryDirectory(t), { ordinal: 1, segmentId: 1n, epoch: 2n });
      writer.append([Buffer.from('synced')], 6, 1, 0n, 1);
      const before = writer.bytes;
      fs.plan = (call) => (call === failing ? { code: 'EIO', shortBy } : undefined);
      assert.throws(() => writer.append([Buffer.from('unsynced')], 8, 1, 1n, 1), { code: 'EIO' });
      assert.deepEqual([writer.bytes, writer.rows], [before, 1]);
      writer.abandon();
      assert.equal(statSync(writer.file).size, before);
      assert.equal(fs.openFiles.size, 0);
    }
  }
});

test('a disk that lets nothing be cut or closed does not keep a segment from being abandoned', (t) => {
  const fs = new FaultyFileSystem();
  const writer = new SegmentWriter(fs, temporaryDirectory(t), { ordinal: 1, segmentId: 1n, epoch: 2n });
  writer.append([Buffer.from('synced')], 6, 1, 0n, 1);
  const refusing = new Set<DiskCall>(['writeAll', 'truncate', 'close']);
  fs.plan = (call) => (refusing.has(call) ? { code: 'EIO', shortBy: 5 } : undefined);
  assert.throws(() => writer.append([Buffer.from('torn')], 4, 1, 1n, 1));
  writer.abandon();
  const scan = scanSegment(writer.file);
  if (scan.kind !== 'segment') assert.fail(scan.kind);
  assert.deepEqual([scan.rows, scan.damages, scan.tear?.offset], [1, [], writer.bytes]);
});

test('a segment whose seal fails keeps its frames and gives its descriptor back', (t) => {
  const fs = new FaultyFileSystem();
  const writer = new SegmentWriter(fs, temporaryDirectory(t), { ordinal: 1, segmentId: 1n, epoch: 2n });
  writer.append([Buffer.from('synced')], 6, 1, 0n, 1);
  fs.plan = (call) => (call === 'writeAll' ? { code: 'ENOSPC', shortBy: 10 } : undefined);
  assert.throws(() => writer.seal(1n, 1), { code: 'ENOSPC' });
  assert.equal(fs.openFiles.size, 0);
  const scan = scanSegment(writer.file);
  if (scan.kind !== 'segment') assert.fail(scan.kind);
  assert.deepEqual([scan.rows, scan.damages], [1, []]);
});

test('room ends where rows or bytes would pass the bounds of a segment, its seal included', (t) => {
  const writer = new SegmentWriter(new FaultyFileSystem(), temporaryDirectory(t), {
    ordinal: 1,
    segmentId: 1n,
    epoch: 2n,
  });
  const room = SEGMENT_MAX_BYTES - SEGMENT_HEAD_BYTES - frameBytes(0);
  const largest = room - frameBytes(0);
  assert.equal(frameBytes(largest), room);
  assert.ok(writer.hasRoom(1, largest));
  assert.ok(!writer.hasRoom(1, largest + 1));
  assert.ok(writer.hasRoom(SEGMENT_MAX_ROWS, 8));
  assert.ok(!writer.hasRoom(SEGMENT_MAX_ROWS + 1, 8));
  writer.append([Buffer.alloc(8)], 8, 10, 0n, 1);
  assert.ok(writer.hasRoom(SEGMENT_MAX_ROWS - 10, 8) && !writer.hasRoom(SEGMENT_MAX_ROWS - 9, 8));
  assert.ok(writer.hasRoom(1, largest - frameBytes(8)) && !writer.hasRoom(1, largest - frameBytes(8) + 1));
  writer.abandon();
});

test('a segment that never had a row goes away', (t) => {
  const fs = new FaultyFileSystem();
  const writer = new SegmentWriter(fs, temporaryDirectory(t), { ordinal: 1, segmentId: 1n, epoch: 2n });
  writer.removeEmpty();
  assert.ok(!existsSync(writer.file));
  assert.equal(fs.openFiles.size, 0);
});
