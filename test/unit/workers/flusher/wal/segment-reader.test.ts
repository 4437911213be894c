import assert from 'node:assert/strict';
import { appendFileSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { nodeFileSystem, type WalFileSystem } from '../../../../../src/workers/flusher/wal/file-system.js';
import {
  crcSeed,
  encodeFrameHead,
  encodeSegmentHead,
  FRAME_HEAD_BYTES,
  frameBytes,
  ROW_FORMAT_VERSION,
  SEGMENT_HEAD_BYTES,
  segmentName,
  WAL_FORMAT_VERSION,
} from '../../../../../src/workers/flusher/wal/format.js';
import { createdAtMs, scanSegment, type SegmentScan } from '../../../../../src/workers/flusher/wal/segment-reader.js';
import { SegmentWriter } from '../../../../../src/workers/flusher/wal/segment-writer.js';
import { tries } from '../../../../support/property.js';
import { temporaryDirectory } from '../../../../support/wal.js';

const SEGMENT_ID = 0x1122334455667788n;
const EPOCH = 0x99aabbccddeeff01n;

/** What is read back at once need not outlive the machine, and a sync takes longer than the rest of a test. */
const unsynced: WalFileSystem = { ...nodeFileSystem, syncData: () => undefined, syncDirectory: () => undefined };

interface Frame {
  readonly start: number;
  readonly end: number;
  readonly payload: Buffer;
  readonly rows: number;
  /** How far the file was synced when it was written. */
  readonly synced: number;
}

interface Segment {
  readonly bytes: Buffer;
  /** With the empty one that seals it, where it is sealed. */
  readonly frames: readonly Frame[];
}

/** Writes a segment as the log does: one frame a group, each synced before the next is written. */
function writeSegment(directory: string, payloads: readonly Uint8Array[], sealed: boolean): Segment {
  rmSync(join(directory, segmentName(1)), { force: true });
  const writer = new SegmentWriter(unsynced, directory, { ordinal: 1, segmentId: SEGMENT_ID, epoch: EPOCH });
  const frames: Frame[] = [];
  let sequence = 0n;
  let at = SEGMENT_HEAD_BYTES;
  const note = (payload: Buffer, rows: number): void => {
    frames.push({ start: at, end: at + frameBytes(payload.length), payload, rows, synced: at });
    at += frameBytes(payload.length);
  };
  payloads.forEach((payload, index) => {
    const rows = index + 1;
    writer.append([payload], payload.length, rows, sequence, 1_700_000_000_000 + index);
    note(Buffer.from(payload), rows);
    sequence += BigInt(rows);
  });
  if (sealed) {
    writer.seal(sequence, 1_700_000_001_000);
    note(Buffer.alloc(0), 0);
  } else {
    writer.abandon();
  }
  return { bytes: readFileSync(writer.file), frames };
}

function smallSegment(directory: string, sealed: boolean): Segment {
  const payloads = ['a', 'two rows', 'a frame of some length that is no multiple of eight', '0123456789abcdef', 'last'];
  return writeSegment(
    directory,
    payloads.map((text) => Buffer.from(text)),
    sealed,
  );
}

interface Expected {
  readonly payloads: readonly Buffer[];
  readonly damages: readonly { offset: number; bytes: number }[];
  readonly tear: { offset: number; bytes: number } | undefined;
}

/**
 * The rule in words (docs/wal-format.md), told again from the frames that were written and which of them are whole: a
 * stretch of bad frames is damage where a whole frame behind it was written when the file was synced beyond it; else
 * everything from there on is a tear.
 */
function expectedOf({ frames }: Segment, size: number, whole: (frame: Frame) => boolean): Expected {
  const payloads: Buffer[] = [];
  const damages: { offset: number; bytes: number }[] = [];
  for (let i = 0; i < frames.length;) {
    const frame = frames[i];
    if (frame === undefined || frame.start >= size) break;
    if (whole(frame)) {
      if (frame.rows > 0) payloads.push(frame.payload);
      i += 1;
      continue;
    }
    const behind = frames.slice(i + 1);
    const next = behind.find(whole);
    if (next === undefined || !behind.some((later) => whole(later) && later.synced > frame.start)) {
      return { payloads, damages, tear: { offset: frame.start, bytes: size - frame.start } };
    }
    damages.push({ offset: frame.start, bytes: next.start - frame.start });
    i = frames.indexOf(next);
  }
  return { payloads, damages, tear: undefined };
}

interface Scanned {
  readonly scan: SegmentScan;
  readonly payloads: readonly Buffer[];
}

function scanBytes(file: string, bytes: Uint8Array): Scanned {
  // Over what is there, then cut: emptying a file first makes some file systems write it out at once.
  writeFileSync(file, bytes, { flag: existsSync(file) ? 'r+' : 'w' });
  truncateSync(file, bytes.length);
  const payloads: Buffer[] = [];
  const scan = scanSegment(file, (payload) => payloads.push(Buffer.from(payload)));
  return { scan, payloads };
}

function assertScan({ scan, payloads }: Scanned, expected: Expected, what: string): void {
  if (scan.kind !== 'segment') assert.fail(`${what}: ${scan.kind}`);
  assert.deepEqual(payloads, expected.payloads, what);
  assert.deepEqual(scan.damages, expected.damages, what);
  assert.deepEqual(scan.tear, expected.tear, what);
  assert.equal(scan.frames.length, expected.payloads.length, what);
  assert.equal(
    scan.bytes,
    expected.payloads.reduce((sum, { length }) => sum + length, 0),
    what,
  );
}

function scratch(t: TestContext): { directory: string; file: string } {
  const directory = temporaryDirectory(t);
  return { directory, file: join(directory, segmentName(1)) };
}

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
