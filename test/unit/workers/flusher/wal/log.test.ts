import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { createFlow, FLOW_SLOT, type FlowMemory } from '../../../../../src/shared/channel.js';
import { Counters, createCounters } from '../../../../../src/shared/counters.js';
import { SEGMENT_MAX_ROWS } from '../../../../../src/shared/limits.js';
import { encodeSegmentHead, ordinalOf, segmentName } from '../../../../../src/workers/flusher/wal/format.js';
import { Log } from '../../../../../src/workers/flusher/wal/log.js';
import { scanSegment } from '../../../../../src/workers/flusher/wal/segment-reader.js';
import { silentLog } from '../../../../support/clickhouse.js';
import { type DiskCall, type Fault, FaultyFileSystem, temporaryDirectory } from '../../../../support/wal.js';
import { tries } from '../../../../support/property.js';

interface OpenLog {
  readonly fs: FaultyFileSystem;
  readonly directory: string;
  readonly flow: FlowMemory;
  readonly counters: Counters;
  readonly log: Log;
}

function openLog(directory: string): OpenLog {
  const memory = createCounters();
  const flow = createFlow(memory);
  const fs = new FaultyFileSystem();
  return { fs, directory, flow, counters: new Counters(memory), log: new Log(fs, directory, flow, silentLog) };
}

function fresh(t: TestContext): OpenLog {
  return openLog(temporaryDirectory(t));
}

function append({ log }: OpenLog, text: string, rows = 1): void {
  const bytes = Buffer.from(text);
  log.append([bytes.subarray(0, 1), bytes.subarray(1)], bytes.length, rows);
}

function activeOrdinal({ flow }: OpenLog): number {
  return Atomics.load(new Int32Array(flow.slots), FLOW_SLOT.activeOrdinal);
}

function segmentFiles(directory: string, fs = new FaultyFileSystem()): string[] {
  return fs
    .list(directory)
    .filter((name) => ordinalOf(name) !== undefined)
    .toSorted();
}

interface Recovered {
  readonly payloads: string[];
  readonly sequences: { readonly first: bigint; readonly rows: number }[];
  readonly gaps: number;
}

/** What recovery would find, segment by segment in order. */
function recover(directory: string): Recovered {
  const found: Recovered & { gaps: number } = { payloads: [], sequences: [], gaps: 0 };
  for (const name of segmentFiles(directory)) {
    const scan = scanSegment(join(directory, name), (payload) => found.payloads.push(payload.toString()));
    if (scan.kind !== 'segment') {
      assert.equal(scan.kind, 'unborn', name);
      continue;
    }
    found.gaps += scan.damages.length + (scan.tear === undefined ? 0 : 1);
    for (const { firstSequence, rows } of scan.frames) found.sequences.push({ first: firstSequence, rows });
  }
  return found;
}

test('what was appended is found again in order, with contiguous sequences over all segments', (t) => {
  const open = fresh(t);
  append(open, 'one', 3);
  append(open, 'two', 1);
  open.log.seal();
  append(open, 'three', 5);
  open.log.close();
  const { payloads, sequences, gaps } = recover(open.directory);
  assert.deepEqual(payloads, ['one', 'two', 'three']);
  assert.deepEqual(sequences, [
    { first: 0n, rows: 3 },
    { first: 3n, rows: 1 },
    { first: 4n, rows: 5 },
  ]);
  assert.equal(gaps, 0);
  assert.deepEqual(segmentFiles(open.directory), [segmentName(1), segmentName(2)]);
});

test('a group that the active segment has no room for goes into the next', (t) => {
  const open = fresh(t);
  append(open, 'nearly all rows', SEGMENT_MAX_ROWS - 1);
  assert.equal(open.log.activeRows, SEGMENT_MAX_ROWS - 1);
  append(open, 'two more', 2);
  assert.equal(open.log.activeRows, 2);
  assert.equal(activeOrdinal(open), 2);
  assert.equal(open.counters.get('walSegmentsSealed'), 1);
  open.log.close();
  assert.equal(recover(open.directory).payloads.length, 2);
});

test('a log that was opened and closed without a row leaves no file, and counts no byte', (t) => {
  const open = fresh(t);
  open.log.prepare();
  open.log.prepare();
  open.log.seal();
  assert.equal(segmentFiles(open.directory).length, 1);
  open.log.close();
  assert.deepEqual([segmentFiles(open.directory), open.counters.get('walBytesAppended')], [[], 0]);
});

test('segments of earlier processes are counted, never appended to, and the next ordinal is free', (t) => {
  const directory = temporaryDirectory(t);
  const first = openLog(directory);
  append(first, 'earlier');
  // Killed: no seal, no close.
  const head = {
    version: 1,
    rowFormat: 1,
    segmentId: 1n,
    epoch: 1n,
    ordinal: 41,
    createdAtMs: 123_456,
    recycled: false,
  };
  writeFileSync(join(directory, segmentName(41)), encodeSegmentHead(head));
  writeFileSync(join(directory, 'probe.tmp'), 'not a segment');
  const before = statSync(join(directory, segmentName(1))).size;
  const second = openLog(directory);
  assert.equal(activeOrdinal(second), 42);
  assert.equal(second.counters.get('walBytesAppended'), before + 64);
  assert.equal(new Float64Array(second.flow.firstCommits)[41], 123_456);
  append(second, 'later');
  second.log.close();
  assert.equal(statSync(join(directory, segmentName(1))).size, before);
  assert.deepEqual(recover(directory).payloads, ['earlier', 'later']);
});

test('the age of a segment is known before its first rows may be acknowledged', (t) => {
  const open = fresh(t);
  const ages = new Float64Array(open.flow.firstCommits);
  open.log.prepare();
  assert.equal(ages[1], 0);
  const from = Date.now();
  open.fs.plan = (call) => {
    if (call === 'syncData') assert.ok((ages[1] ?? 0) >= from);
    return undefined;
  };
  append(open, 'row');
  const first = ages[1];
  append(open, 'row');
  assert.equal(ages[1], first);
  open.log.seal();
  assert.equal(ages[2], 0);
});

const FAULTS: readonly { call: DiskCall; fault: Fault }[] = [
  { call: 'writeAll', fault: { code: 'ENOSPC' } },
  { call: 'writeAll', fault: { code: 'ENOSPC', shortBy: 1 } },
  { call: 'writeAll', fault: { code: 'EIO', shortBy: 40 } },
  { call: 'syncData', fault: { code: 'EIO' } },
  { call: 'create', fault: { code: 'EMFILE' } },
  { call: 'syncDirectory', fault: { code: 'EIO' } },
];

test('a group that the disk refuses throws and is not counted, and the next one goes into a new segment', (t) => {
  for (const { call, fault } of FAULTS) {
    const open = fresh(t);
    append(open, 'kept');
    if (call === 'create' || call === 'syncDirectory') open.log.seal();
    const sealedBefore = activeOrdinal(open);
    open.fs.plan = (made) => (made === call ? fault : undefined);
    assert.throws(() => append(open, 'refused', 7), { code: fault.code });
    assert.equal(open.log.activeRows, 0);
    open.fs.plan = () => undefined;
    append(open, 'kept too');
    assert.ok(activeOrdinal(open) > sealedBefore || call === 'create' || call === 'syncDirectory');
    open.log.close();
    const { payloads, sequences, gaps } = recover(open.directory);
    assert.deepEqual(payloads, ['kept', 'kept too'], `${call} ${fault.code}`);
    // What was written and refused may come out of the disk one day: nothing else has its sequence numbers.
    const wasWritten = call === 'writeAll' || call === 'syncData';
    assert.deepEqual(
      sequences.map(({ first }) => first),
      [0n, wasWritten ? 0n : 1n],
    );
    assert.equal(gaps, 0);
    assert.equal(open.fs.openFiles.size, 0);
  }
});

test('a segment that could be neither opened nor removed does not stop the next one', (t) => {
  for (const call of ['writeAll', 'syncData', 'syncDirectory'] as const) {
    const open = fresh(t);
    open.fs.plan = (made) => (made === call || made === 'remove' ? { code: 'EIO', shortBy: 10 } : undefined);
    for (let i = 0; i < 3; i += 1) assert.throws(() => append(open, 'refused'), { code: 'EIO' });
    open.fs.plan = () => undefined;
    append(open, 'kept');
    open.log.close();
    assert.deepEqual(recover(open.directory).payloads, ['kept'], call);
    assertBytesCounted(open);
  }
});

test('a seal that fails hands the segment on all the same', (t) => {
  const open = fresh(t);
  append(open, 'kept');
  open.fs.plan = (call) => (call === 'writeAll' ? { code: 'ENOSPC', shortBy: 9 } : undefined);
  open.log.seal();
  open.fs.plan = () => undefined;
  assert.equal(activeOrdinal(open), 2);
  append(open, 'next');
  open.log.close();
  assert.deepEqual(recover(open.directory).payloads, ['kept', 'next']);
  assertBytesCounted(open);
});

/** Bytes that were counted as appended are the bytes that the shipper will find and free. */
function assertBytesCounted({ directory, counters, flow }: OpenLog): void {
  const firstOwn = Atomics.load(new Int32Array(flow.slots), FLOW_SLOT.firstOrdinal);
  const there = segmentFiles(directory).reduce((sum, name) => {
    const file = join(directory, name);
    const scan = scanSegment(file);
    const wrote = (ordinalOf(name) ?? 0) >= firstOwn && scan.kind === 'segment';
    return sum + (wrote ? scan.end : statSync(file).size);
  }, 0);
  assert.equal(counters.get('walBytesAppended'), there);
}

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      rows: fc.integer({ min: 1, max: 1000 }),
      size: fc.integer({ min: 1, max: 500 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seal' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('prepare' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('fault' as const),
      calls: fc.uniqueArray(
        fc.constantFrom<DiskCall>('create', 'writeAll', 'syncData', 'truncate', 'close', 'syncDirectory', 'remove'),
        {
          minLength: 1,
          maxLength: 3,
        },
      ),
      code: fc.constantFrom<Fault['code']>('ENOSPC', 'EIO'),
      shortBy: fc.option(fc.nat(200), { nil: undefined }),
      /** Calls of these kinds that go well before. */
      after: fc.nat(2),
      /** Calls that fail. */
      times: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

test('whatever the disk does, every acknowledged group is found once and in order, and what else is found was refused', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const directory = temporaryDirectory(t);
      let open = openLog(directory);
      const kept: string[] = [];
      const refused = new Set<string>();
      let groups = 0;
      for (const action of steps) {
        switch (action.kind) {
          case 'append': {
            groups += 1;
            const text = `${groups}:`.padEnd(action.size, 'x');
            const before = open.counters.get('walBytesAppended');
            try {
              append(open, text, action.rows);
              kept.push(text);
              assert.ok(open.counters.get('walBytesAppended') > before);
              const file = join(directory, segmentName(activeOrdinal(open)));
              assert.equal(open.fs.syncedBytes(file), statSync(file).size, 'acknowledged before it was synced');
            } catch (error) {
              if (!isDiskFault(error)) throw error;
              refused.add(text);
            }
            break;
          }
          case 'seal':
            open.log.seal();
            break;
          case 'prepare':
            try {
              open.log.prepare();
            } catch (error) {
              if (!isDiskFault(error)) throw error;
            }
            break;
          case 'reopen':
            open.fs.closeAll();
            open = openLog(directory);
            break;
          case 'fault': {
            let seen = 0;
            const { calls, code, shortBy, after, times } = action;
            open.fs.plan = (made) => {
              if (!calls.includes(made)) return undefined;
              seen += 1;
              if (seen <= after || seen > after + times) return undefined;
              return shortBy === undefined ? { code } : { code, shortBy };
            };
            break;
          }
        }
      }
      open.fs.closeAll();
      const { payloads } = recover(directory);
      assert.deepEqual(
        payloads.filter((text) => !refused.has(text)),
        kept,
      );
      assert.equal(new Set(payloads).size, payloads.length);
    }),
    tries(150),
  );
});

function isDiskFault(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EIO');
}
