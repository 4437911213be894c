import assert from 'node:assert/strict';
import { appendFileSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  encodeSegmentHead,
  ROW_FORMAT_VERSION,
  WAL_FORMAT_VERSION,
} from '../../../../../src/workers/flusher/wal/format.js';
import { createdAtMs, scanSegment } from '../../../../../src/workers/flusher/wal/segment-reader.js';
import { SEGMENT_ID, EPOCH, writeSegment, smallSegment, scanBytes, scratch } from '../../../../support/segments.js';

test('a segment of a newer release is refused by its version, whatever is in it', (t) => {
  const { directory, file } = scratch(t);
  const { bytes } = smallSegment(directory, true);
  for (const [version, rowFormat] of [
    [WAL_FORMAT_VERSION + 1, ROW_FORMAT_VERSION],
    [WAL_FORMAT_VERSION, ROW_FORMAT_VERSION + 1],
  ] as const) {
    encodeSegmentHead({
      version,
      rowFormat,
      segmentId: SEGMENT_ID,
      epoch: EPOCH,
      ordinal: 1,
      createdAtMs: 5,
      recycled: false,
    }).copy(bytes);
    const newer = Math.max(version, rowFormat);
    assert.deepEqual(scanBytes(file, bytes), { scan: { kind: 'newer', version: newer }, payloads: [] });
    assert.equal(createdAtMs(file), 1);
  }
});

test('a file no longer than a head that holds none is unborn, a longer one headless', (t) => {
  const { file } = scratch(t);
  for (const size of [0, 1, 63, 64]) assert.deepEqual(scanBytes(file, Buffer.alloc(size)).scan, { kind: 'unborn' });
  for (const size of [65, 200, 5000]) {
    assert.deepEqual(scanBytes(file, Buffer.alloc(size)).scan, { kind: 'headless', bytes: size });
  }
});

test('a file that grows or shrinks under the reader throws nothing', (t) => {
  const { directory, file } = scratch(t);
  const segment = writeSegment(
    directory,
    [Buffer.alloc(100, 1), Buffer.alloc(2_000_000, 2), Buffer.alloc(100, 3)],
    false,
  );
  writeFileSync(file, segment.bytes);
  let seen = 0;
  const shrunk = scanSegment(file, () => {
    seen += 1;
    if (seen === 1) truncateSync(file, 1_000_000);
  });
  if (shrunk.kind !== 'segment') assert.fail(shrunk.kind);
  assert.deepEqual([seen, shrunk.frames.length], [1, 1]);
  writeFileSync(file, segment.bytes);
  const grown = scanSegment(file, () => appendFileSync(file, 'more'));
  if (grown.kind !== 'segment') assert.fail(grown.kind);
  assert.deepEqual([grown.frames.length, grown.tear], [3, undefined]);
});

test('a file that is not there is the caller’s to explain', (t) => {
  const { file } = scratch(t);
  assert.throws(() => scanSegment(file), { code: 'ENOENT' });
  assert.equal(createdAtMs(file), 1);
});
