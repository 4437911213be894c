import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  crcSeed,
  decodeFrameHead,
  decodeSegmentHead,
  encodeFrameHead,
  encodeSegmentHead,
  FRAME_HEAD_BYTES,
  type FrameHead,
  frameBytes,
  frameIsIntact,
  ordinalOf,
  padding,
  ROW_FORMAT_VERSION,
  SEGMENT_HEAD_BYTES,
  type SegmentHead,
  segmentName,
  WAL_FORMAT_VERSION,
} from '../../../../../src/workers/flusher/wal/format.js';
import { tries } from '../../../../support/property.js';

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const u32 = fc.nat(0xffffffff);
const unixMs = fc.nat(4e12);

const segmentHead: fc.Arbitrary<SegmentHead> = fc.record(
  {
    version: fc.constant(WAL_FORMAT_VERSION),
    rowFormat: fc.constant(ROW_FORMAT_VERSION),
    segmentId: u64,
    epoch: u64,
    ordinal: fc.nat(Number.MAX_SAFE_INTEGER),
    createdAtMs: unixMs,
    recycled: fc.boolean(),
  },
  { noNullPrototype: true },
);

const frame = fc
  .record({
    segmentId: u64,
    epoch: u64,
    offset: u32,
    firstSequence: u64,
    syncedBytes: u32,
    committedAtMs: unixMs,
    rows: u32,
    pieces: fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 4 }),
  })
  .map(({ pieces, ...head }) => {
    const payload = Buffer.concat(pieces);
    return {
      head: { ...head, length: payload.length },
      pieces,
      bytes: encodeFrame({ ...head, length: payload.length }, pieces),
    };
  });

/** A frame as it stands in a file. */
function encodeFrame(head: FrameHead, pieces: readonly Uint8Array[]): Buffer {
  const bytes = Buffer.alloc(frameBytes(head.length));
  // Left over from the frame before: the encoder must write every byte of the head.
  bytes.fill(0xaa, 0, FRAME_HEAD_BYTES);
  encodeFrameHead(bytes, head, crcSeed(head.segmentId), pieces);
  Buffer.concat(pieces).copy(bytes, FRAME_HEAD_BYTES);
  return bytes;
}

/** CRC-32 (IEEE 802.3, reflected), bit by bit. */
function plainCrc32(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

test('a segment head is read back as it was written, from 64 bytes', () => {
  fc.assert(
    fc.property(segmentHead, (head) => {
      const bytes = encodeSegmentHead(head);
      assert.equal(bytes.length, SEGMENT_HEAD_BYTES);
      assert.deepEqual(decodeSegmentHead(bytes), head);
    }),
    tries(200),
  );
});

test('a segment head has the layout that docs/wal-format.md draws', () => {
  const bytes = encodeSegmentHead({
    version: 1,
    rowFormat: 1,
    segmentId: 0x0807060504030201n,
    epoch: 0x1817161514131211n,
    ordinal: 0x2a,
    createdAtMs: 1,
    recycled: false,
  });
  assert.equal(bytes.toString('latin1', 0, 4), 'PSEG');
  assert.equal(
    bytes.toString('hex', 4, 40),
    '01000100010203040506070811121314151617182a00000000000000000000000000f03f',
  );
  assert.equal(bytes.toString('hex', 40, 56), '00'.repeat(16));
  assert.equal(bytes.readUInt32LE(56), plainCrc32(bytes.subarray(0, 56)));
  assert.equal(bytes.readUInt32LE(60), 0);
});

test('a frame head has the layout that docs/wal-format.md draws', () => {
  const payload = Buffer.from('rows of a test');
  const bytes = encodeFrame(
    {
      segmentId: 0x0807060504030201n,
      epoch: 0x1817161514131211n,
      offset: 0x40,
      firstSequence: 7n,
      syncedBytes: 0x40,
      committedAtMs: 1,
      rows: 3,
      length: payload.length,
    },
    [payload],
  );
  const seed = plainCrc32(Buffer.from('0102030405060708', 'hex'));
  assert.equal(bytes.length, 72 + 16);
  assert.equal(bytes.toString('latin1', 0, 4), 'PFRM');
  assert.equal(
    bytes.toString('hex', 4, 52),
    '03000000010203040506070811121314151617180700000000000000000000000000f03f40000000400000000e000000',
  );
  assert.equal(bytes.toString('hex', 52, 64), '00'.repeat(12));
  assert.equal(bytes.readUInt32LE(64), plainCrc32(payload, plainCrc32(bytes.subarray(0, 64), seed)));
  assert.equal(bytes.readUInt32LE(68), 0);
});

test('any flipped bit of a segment head up to its checksum is noticed', () => {
  fc.assert(
    fc.property(segmentHead, fc.nat(60 * 8 - 1), (head, bit) => {
      const bytes = encodeSegmentHead(head);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(typeof decodeSegmentHead(bytes), 'string');
    }),
    tries(500),
  );
});

test('a segment head that is cut short is none', () => {
  const whole = encodeSegmentHead({
    version: 1,
    rowFormat: 1,
    segmentId: 1n,
    epoch: 2n,
    ordinal: 3,
    createdAtMs: 4,
    recycled: false,
  });
  for (let length = 0; length < SEGMENT_HEAD_BYTES; length += 1) {
    assert.equal(decodeSegmentHead(whole.subarray(0, length)), 'not a segment');
  }
});

test('a newer version of segments or of rows is refused by its number', () => {
  const head = {
    version: WAL_FORMAT_VERSION,
    rowFormat: ROW_FORMAT_VERSION,
    segmentId: 1n,
    epoch: 2n,
    ordinal: 3,
    createdAtMs: 4,
    recycled: false,
  };
  assert.deepEqual(decodeSegmentHead(encodeSegmentHead({ ...head, version: WAL_FORMAT_VERSION + 1 })), {
    newerVersion: WAL_FORMAT_VERSION + 1,
  });
  assert.deepEqual(decodeSegmentHead(encodeSegmentHead({ ...head, rowFormat: ROW_FORMAT_VERSION + 5 })), {
    newerVersion: ROW_FORMAT_VERSION + 5,
  });
});

test('a frame is read back as it was written, whatever pieces its payload came in', () => {
  fc.assert(
    fc.property(frame, ({ head, bytes }) => {
      assert.deepEqual(decodeFrameHead(bytes, head.segmentId, head.offset, bytes.length), head);
      assert.ok(frameIsIntact(bytes, head, crcSeed(head.segmentId)));
    }),
    tries(300),
  );
});

test('any flipped bit of a frame up to the end of its payload is noticed, but for the four bytes behind the checksum', () => {
  fc.assert(
    fc.property(frame, fc.nat(), ({ head, bytes }, choice) => {
      const bit = choice % ((FRAME_HEAD_BYTES + head.length) * 8);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const found = decodeFrameHead(bytes, head.segmentId, head.offset, bytes.length);
      const passes = found !== undefined && frameIsIntact(bytes, found, crcSeed(head.segmentId));
      assert.equal(passes, bit >> 3 >= 68 && bit >> 3 < FRAME_HEAD_BYTES);
    }),
    tries(1000),
  );
});

test('a frame does not pass in another segment, at another offset, or cut short', () => {
  fc.assert(
    fc.property(frame, u64, u32, ({ head, bytes }, otherId, otherOffset) => {
      fc.pre(otherId !== head.segmentId && otherOffset !== head.offset);
      assert.equal(decodeFrameHead(bytes, otherId, head.offset, bytes.length), undefined);
      assert.equal(decodeFrameHead(bytes, head.segmentId, otherOffset, bytes.length), undefined);
      assert.equal(decodeFrameHead(bytes, head.segmentId, head.offset, bytes.length - 1), undefined);
      // Where somebody has rewritten the id in the head, the seed of the checksum still tells.
      const forged = Buffer.from(bytes);
      forged.writeBigUInt64LE(otherId, 8);
      const found = decodeFrameHead(forged, otherId, head.offset, forged.length);
      assert.ok(found !== undefined && !frameIsIntact(forged, found, crcSeed(otherId)));
    }),
    tries(300),
  );
});

test('a frame takes a multiple of eight bytes, fewer than eight of them padding', () => {
  for (let length = 0; length < 64; length += 1) {
    assert.ok(padding(length) >= 0 && padding(length) < 8);
    assert.equal(frameBytes(length) % 8, 0);
    assert.equal(frameBytes(length), FRAME_HEAD_BYTES + length + padding(length));
  }
});

test('segment names sort as their ordinals do, and no other name is one', () => {
  fc.assert(
    fc.property(fc.nat(Number.MAX_SAFE_INTEGER), fc.nat(Number.MAX_SAFE_INTEGER), (a, b) => {
      assert.equal(ordinalOf(segmentName(a)), a);
      assert.equal(segmentName(a) < segmentName(b), a < b);
    }),
    tries(200),
  );
  const others = [
    '',
    'probe.tmp',
    'damaged',
    '1.wal',
    '00000000000000001.wal',
    '0000000000000001.wal.tmp',
    'x0000000000000001.wal',
    '000000000000000a.wal',
  ];
  for (const name of others) assert.equal(ordinalOf(name), undefined);
});
