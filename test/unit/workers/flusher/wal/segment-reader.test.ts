import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  crcSeed,
  encodeFrameHead,
  encodeSegmentHead,
  FRAME_HEAD_BYTES,
  frameBytes,
  SEGMENT_HEAD_BYTES,
  WAL_FORMAT_VERSION,
} from '../../../../../src/workers/flusher/wal/format.js';
import { createdAtMs } from '../../../../../src/workers/flusher/wal/segment-reader.js';
import { tries } from '../../../../support/property.js';
import {
  SEGMENT_ID,
  EPOCH,
  type Frame,
  writeSegment,
  smallSegment,
  expectedOf,
  scanBytes,
  assertScan,
  scratch,
} from '../../../../support/segments.js';

test('a segment is read as it was written, its sequences without gap or overlap', (t) => {
  const { directory, file } = scratch(t);
  for (const sealed of [false, true]) {
    const segment = smallSegment(directory, sealed);
    const scanned = scanBytes(file, segment.bytes);
    assertScan(
      scanned,
      expectedOf(segment, segment.bytes.length, () => true),
      `sealed: ${sealed}`,
    );
    const { scan } = scanned;
    if (scan.kind !== 'segment') assert.fail(scan.kind);
    assert.deepEqual(
      {
        segmentId: scan.head.segmentId,
        epoch: scan.head.epoch,
        ordinal: scan.head.ordinal,
        version: scan.head.version,
      },
      { segmentId: SEGMENT_ID, epoch: EPOCH, ordinal: 1, version: WAL_FORMAT_VERSION },
    );
    let next = 0n;
    for (const frame of scan.frames) {
      assert.equal(frame.firstSequence, next);
      assert.equal(frame.payloadOffset, frame.offset + FRAME_HEAD_BYTES);
      next += BigInt(frame.rows);
    }
    assert.equal(BigInt(scan.rows), next);
    assert.equal(createdAtMs(file), scan.head.createdAtMs);
  }
});

test('a log truncated at any byte gives exactly the frames before it, and the rest as a tear', (t) => {
  const { directory, file } = scratch(t);
  const segment = smallSegment(directory, true);
  for (let size = segment.bytes.length; size >= 0; size -= 1) {
    const scanned = scanBytes(file, segment.bytes.subarray(0, size));
    if (size < SEGMENT_HEAD_BYTES) {
      assert.deepEqual(scanned, { scan: { kind: 'unborn' }, payloads: [] }, `${size} bytes`);
      assert.equal(createdAtMs(file), 1);
    } else {
      assertScan(
        scanned,
        expectedOf(segment, size, ({ end }) => end <= size),
        `${size} bytes`,
      );
    }
  }
});

test('a flip of any bit gives all other frames, and the rest as a tear or damage as the rule says', (t) => {
  const { directory, file } = scratch(t);
  // Every bit of a sealed segment; of one that is not sealed, which differs in its last frame only, every byte.
  for (const { sealed, masks } of [
    { sealed: true, masks: [1, 2, 4, 8, 16, 32, 64, 128] },
    { sealed: false, masks: [255] },
  ]) {
    const segment = smallSegment(directory, sealed);
    for (let flip = 0; flip < segment.bytes.length * masks.length; flip += 1) {
      const at = Math.floor(flip / masks.length);
      const mask = masks[flip % masks.length] ?? 0;
      const bytes = Buffer.from(segment.bytes);
      bytes[at] = (bytes[at] ?? 0) ^ mask;
      const what = `byte ${at} ^ ${mask}, sealed: ${sealed}`;
      const scanned = scanBytes(file, bytes);
      if (at < 60) {
        assert.deepEqual(scanned, { scan: { kind: 'headless', bytes: bytes.length }, payloads: [] }, what);
        continue;
      }
      // Nothing is in the four bytes behind each checksum, nor in the padding.
      const whole = ({ start, end, payload }: Frame): boolean => {
        const inFrame = at - start;
        const covered = inFrame < 68 || (inFrame >= FRAME_HEAD_BYTES && inFrame < FRAME_HEAD_BYTES + payload.length);
        return at < start || at >= end || !covered;
      };
      assertScan(scanned, expectedOf(segment, bytes.length, whole), what);
    }
  }
});

test('any stretch of garbage or zeros leaves the frames around it, and every byte is accounted for', (t) => {
  const { directory, file } = scratch(t);
  const stretch = fc.record({
    at: fc.nat(),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
      fc.nat(300).map((length) => new Uint8Array(length)),
    ),
  });
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      fc.array(stretch, { minLength: 1, maxLength: 3 }),
      (payloads, sealed, stretches) => {
        const segment = writeSegment(directory, payloads, sealed);
        const bytes = Buffer.from(segment.bytes);
        for (const { at, bytes: garbage } of stretches) {
          const from = SEGMENT_HEAD_BYTES + (at % (bytes.length - SEGMENT_HEAD_BYTES));
          Buffer.from(garbage).copy(bytes, from);
        }
        const isWhole = ({ start, payload }: Frame): boolean => {
          const same = (from: number, to: number): boolean => bytes.compare(segment.bytes, from, to, from, to) === 0;
          return same(start, start + 68) && same(start + FRAME_HEAD_BYTES, start + FRAME_HEAD_BYTES + payload.length);
        };
        const expected = expectedOf(segment, bytes.length, isWhole);
        const onlyZeros =
          expected.tear !== undefined && bytes.subarray(expected.tear.offset).every((byte) => byte === 0);
        assertScan(scanBytes(file, bytes), onlyZeros ? { ...expected, tear: undefined } : expected, 'garbage');
      },
    ),
    tries(150),
  );
});

test('zeros behind the last frame are the end of the segment, anything else there is a tear', (t) => {
  const { directory, file } = scratch(t);
  const segment = smallSegment(directory, false);
  const all = expectedOf(segment, segment.bytes.length, () => true);
  for (const zeros of [1, 7, 8, 71, 72, 4096, 200_000]) {
    const bytes = Buffer.concat([segment.bytes, Buffer.alloc(zeros)]);
    assertScan(scanBytes(file, bytes), all, `${zeros} zeros`);
    bytes[bytes.length - 1] = 1;
    const tear = { offset: segment.bytes.length, bytes: zeros };
    assertScan(scanBytes(file, bytes), { ...all, tear }, `${zeros} bytes, the last not zero`);
  }
});

test('a frame behind a bad one does not pass where nothing says that the bad one was synced', (t) => {
  const { directory, file } = scratch(t);
  const segment = writeSegment(directory, [Buffer.from('first'), Buffer.from('second')], false);
  // Two frames written behind one another without a sync between them, as if the second had reached the disk alone.
  const lost = segment.bytes.length;
  const offset = lost + frameBytes(5);
  const frame = Buffer.alloc(frameBytes(5));
  const head = {
    segmentId: SEGMENT_ID,
    epoch: EPOCH,
    offset,
    firstSequence: 9n,
    syncedBytes: lost,
    committedAtMs: 1,
    rows: 1,
    length: 5,
  };
  encodeFrameHead(frame, head, crcSeed(SEGMENT_ID), [Buffer.from('later')]);
  frame.write('later', FRAME_HEAD_BYTES);
  const bytes = Buffer.concat([segment.bytes, Buffer.alloc(frameBytes(5), 0x5a), frame]);
  const all = expectedOf(segment, segment.bytes.length, () => true);
  assertScan(scanBytes(file, bytes), { ...all, tear: { offset: lost, bytes: bytes.length - lost } }, 'unsynced');
});

test('frames of another segment never pass, though they stand where this one would have put them', (t) => {
  const { directory, file } = scratch(t);
  const former = smallSegment(directory, true);
  for (const kept of [0, 1, 3, former.frames.length]) {
    const cut = former.frames[kept]?.start ?? former.bytes.length;
    const bytes = Buffer.from(former.bytes);
    // The file's next life: a new head, `kept` new frames over the old ones, the old ones behind them.
    const next = {
      version: 1,
      rowFormat: 1,
      segmentId: SEGMENT_ID + 1n,
      epoch: EPOCH,
      ordinal: 2,
      createdAtMs: 5,
      recycled: false,
    };
    encodeSegmentHead(next).copy(bytes, 0);
    for (const { start, payload, rows, synced } of former.frames.slice(0, kept)) {
      const head = {
        segmentId: next.segmentId,
        epoch: EPOCH,
        offset: start,
        firstSequence: 0n,
        syncedBytes: synced,
        committedAtMs: 1,
        rows,
        length: payload.length,
      };
      const frame = Buffer.alloc(FRAME_HEAD_BYTES);
      encodeFrameHead(frame, head, crcSeed(next.segmentId), [payload]);
      frame.copy(bytes, start);
    }
    const expected = expectedOf({ bytes, frames: former.frames.slice(0, kept) }, bytes.length, () => true);
    const tear = cut === bytes.length ? undefined : { offset: cut, bytes: bytes.length - cut };
    assertScan(scanBytes(file, bytes), { ...expected, tear }, `${kept} new frames`);
  }
});

test('a whole frame inside the rows of another is rows', (t) => {
  const { directory, file } = scratch(t);
  const inner = Buffer.alloc(frameBytes(8));
  const offset = SEGMENT_HEAD_BYTES + FRAME_HEAD_BYTES;
  const head = {
    segmentId: SEGMENT_ID,
    epoch: EPOCH,
    offset,
    firstSequence: 0n,
    syncedBytes: 64,
    committedAtMs: 1,
    rows: 1,
    length: 8,
  };
  encodeFrameHead(inner, head, crcSeed(SEGMENT_ID), [Buffer.alloc(8, 0x61)]);
  inner.fill(0x61, FRAME_HEAD_BYTES);
  const segment = writeSegment(directory, [inner, Buffer.from('behind')], true);
  assertScan(
    scanBytes(file, segment.bytes),
    expectedOf(segment, segment.bytes.length, () => true),
    'inner',
  );
});

test('a frame larger than the reader’s first buffer is read whole', (t) => {
  const { directory, file } = scratch(t);
  const payload = Buffer.alloc(5 * 1024 * 1024 + 3, 'penstock');
  const segment = writeSegment(directory, [Buffer.from('small'), payload, Buffer.from('small')], true);
  assertScan(
    scanBytes(file, segment.bytes),
    expectedOf(segment, segment.bytes.length, () => true),
    'large',
  );
  const bytes = Buffer.from(segment.bytes);
  bytes[2 * 1024 * 1024] = (bytes[2 * 1024 * 1024] ?? 0) ^ 1;
  const whole = ({ payload: rows }: Frame): boolean => rows.length < 1000;
  assertScan(scanBytes(file, bytes), expectedOf(segment, bytes.length, whole), 'large and damaged');
});
