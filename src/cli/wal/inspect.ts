import fs from 'node:fs';
import path from 'node:path';
import { DataDirLock } from '../../main/data-dir-lock.js';
import { keptDirectory } from '../../workers/flusher/disposal.js';
import { damagedDirectory } from '../../workers/flusher/set-aside.js';
import { isSpare } from '../../workers/flusher/wal/format.js';
import type { SegmentScan } from '../../workers/flusher/wal/segment-reader.js';
import { count, EXIT_FINDING, EXIT_WELL, formatCount, print, printJson, Progress, table } from '../console.js';
import { listDirectory, scanSteadily, segmentFiles } from './segment-files.js';

/** `penstock wal verify` and `stat`: what the log holds, and whether it is as it was written. */

export interface Place {
  readonly dataDir: string;
  readonly walDirectory: string;
}

interface Inspected {
  readonly name: string;
  readonly folder: 'wal' | 'kept';
  readonly fileBytes: number;
  readonly scan: SegmentScan;
  /** It may be written to at this moment. */
  readonly active: boolean;
}

/** In order; undefined where a segment has gone since the directory was listed: it was confirmed, and all before it were. */
async function* inspect({ dataDir, walDirectory }: Place): AsyncGenerator<Inspected | undefined> {
  const running = (await DataDirLock.holder(dataDir)) !== undefined;
  const progress = new Progress();
  const pending = segmentFiles(walDirectory);
  const files = [
    ...segmentFiles(keptDirectory(walDirectory)).map((file) => ({ ...file, folder: 'kept' as const })),
    ...pending.map((file) => ({ ...file, folder: 'wal' as const })),
  ];
  for (const [at, { file, name, folder }] of files.entries()) {
    progress.tick(() => `${at} of ${count(files.length, 'segment')} read`);
    const scan = scanSteadily(file);
    if (scan === undefined) {
      yield undefined;
      continue;
    }
    const fileBytes = fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    yield { name, folder, fileBytes, scan, active: running && name === pending.at(-1)?.name };
  }
}

type State = 'ok' | 'active' | 'torn' | 'damaged' | 'headless' | 'newer' | 'unborn';

function stateOf({ scan, active }: Inspected): State {
  if (scan.kind !== 'segment') return scan.kind;
  if (scan.damages.length > 0) return 'damaged';
  // What looks torn at the end of the active segment is being written.
  if (active) return 'active';
  return scan.tear === undefined ? 'ok' : 'torn';
}

/** Acknowledged events are in it, or may be, that cannot be shipped. */
const BAD: readonly State[] = ['damaged', 'headless', 'newer'];

/** `penstock wal verify` */
export async function verify(place: Place, json: boolean): Promise<number> {
  const segments = [];
  const findings: string[] = [];
  const nextOf = new Map<bigint, { readonly next: bigint; readonly name: string }>();
  for await (const inspected of inspect(place)) {
    if (inspected === undefined) {
      nextOf.clear();
      continue;
    }
    const { name, folder, scan } = inspected;
    const state = stateOf(inspected);
    const { gaps, ...summary } = summarize(scan, name, nextOf);
    findings.push(...gaps, ...troubles(name, scan, state));
    segments.push({ segment: name, folder, state, fileBytes: inspected.fileBytes, ...summary });
  }
  const aside = listDirectory(damagedDirectory(place.walDirectory));
  for (const name of aside) findings.push(`${name} was set aside in damaged/ earlier`);
  const bad = findings.length > 0;
  if (json) await printJson({ ok: !bad, segments, findings });
  else {
    const head = ['segment', 'in', 'state', 'epoch', 'first', 'rows', 'frames', 'bytes', 'sealed'];
    const rows = segments.map(
      ({ segment, folder, state, epoch, firstSequence, rows: rowCount, frames, fileBytes, sealed }) => [
        segment,
        folder,
        state,
        epoch,
        firstSequence === undefined ? undefined : formatCount(Number(firstSequence)),
        rowCount,
        frames,
        fileBytes,
        sealed ? 'yes' : 'no',
      ],
    );
    if (rows.length > 0) await print(table(head, rows));
    for (const finding of findings) await print(`! ${finding}\n`);
    const total = segments.reduce((sum, { rows: rowCount }) => sum + rowCount, 0);
    await print(
      `${count(segments.length, 'segment')}, ${count(total, 'row')}, ${bad ? count(findings.length, 'finding') : 'all intact'}\n`,
    );
  }
  return bad ? EXIT_FINDING : EXIT_WELL;
}

/** Sequence numbers go on from frame to frame and, segments being confirmed in order, from file to file of one epoch. */
function summarize(
  scan: SegmentScan,
  name: string,
  nextOf: Map<bigint, { readonly next: bigint; readonly name: string }>,
) {
  const gaps: string[] = [];
  if (scan.kind !== 'segment') {
    return { gaps, epoch: undefined, firstSequence: undefined, rows: 0, frames: 0, bytes: 0, sealed: false };
  }
  const { epoch } = scan.head;
  for (const frame of scan.frames) {
    const before = nextOf.get(epoch);
    if (before !== undefined && before.next !== frame.firstSequence) {
      gaps.push(
        `epoch ${epoch} goes from ${before.next} (${before.name}) on at ${frame.firstSequence} (${name}, byte ${frame.offset})`,
      );
    }
    nextOf.set(epoch, { next: frame.firstSequence + BigInt(frame.rows), name });
  }
  return {
    gaps,
    epoch: String(epoch),
    firstSequence: scan.frames[0] === undefined ? undefined : String(scan.frames[0].firstSequence),
    rows: scan.rows,
    frames: scan.frames.length,
    bytes: scan.bytes,
    sealed: scan.sealed,
  };
}

function troubles(name: string, scan: SegmentScan, state: State): string[] {
  if (!BAD.includes(state)) return [];
  if (scan.kind === 'newer') return [`${name} was written by a newer release (format ${scan.version})`];
  if (scan.kind !== 'segment') return [`${name} has a damaged head: nothing of it can be shipped`];
  return scan.damages.map(
    ({ offset, bytes }) => `${name} is damaged at byte ${offset}: ${count(bytes, 'byte')} cannot be read`,
  );
}

/** `penstock wal stat` */
export async function stat(place: Place, json: boolean): Promise<number> {
  const sums = { wal: emptySum(), kept: emptySum() };
  const epochs = new Set<bigint>();
  let oldestMs = Infinity;
  let newestMs = -Infinity;
  let bad = 0;
  for await (const inspected of inspect(place)) {
    if (inspected === undefined) continue;
    const { scan, folder, fileBytes } = inspected;
    sums[folder].segments += 1;
    sums[folder].fileBytes += fileBytes;
    if (BAD.includes(stateOf(inspected))) bad += 1;
    if (scan.kind !== 'segment') continue;
    sums[folder].rows += scan.rows;
    if (folder === 'kept' || scan.rows === 0) continue;
    epochs.add(scan.head.epoch);
    oldestMs = Math.min(oldestMs, scan.frames[0]?.committedAtMs ?? Infinity);
    newestMs = Math.max(newestMs, scan.frames.at(-1)?.committedAtMs ?? -Infinity);
  }
  const spares = sizeOf(place.walDirectory, isSpare);
  const aside = sizeOf(damagedDirectory(place.walDirectory), () => true);
  const report = {
    directory: place.walDirectory,
    pending: sums.wal,
    epochs: epochs.size,
    oldestCommit: isoTime(oldestMs),
    newestCommit: isoTime(newestMs),
    kept: sums.kept,
    spares,
    setAside: aside,
    damagedSegments: bad,
  };
  if (json) await printJson(report);
  else await print(statText(report));
  return bad + aside.files > 0 ? EXIT_FINDING : EXIT_WELL;
}

interface Sum {
  segments: number;
  rows: number;
  fileBytes: number;
}

function emptySum(): Sum {
  return { segments: 0, rows: 0, fileBytes: 0 };
}

function sizeOf(directory: string, which: (name: string) => boolean): { files: number; fileBytes: number } {
  const sizes = listDirectory(directory)
    .filter(which)
    .map((name) => fs.statSync(path.join(directory, name), { throwIfNoEntry: false })?.size ?? 0);
  return { files: sizes.length, fileBytes: sizes.reduce((sum, size) => sum + size, 0) };
}

function isoTime(ms: number): string | undefined {
  return Number.isFinite(ms) ? new Date(ms).toISOString() : undefined;
}

function statText(report: {
  readonly directory: string;
  readonly pending: Sum;
  readonly epochs: number;
  readonly oldestCommit: string | undefined;
  readonly newestCommit: string | undefined;
  readonly kept: Sum;
  readonly spares: { readonly files: number; readonly fileBytes: number };
  readonly setAside: { readonly files: number; readonly fileBytes: number };
  readonly damagedSegments: number;
}): string {
  const { pending, kept, spares, setAside } = report;
  const counts = table(
    ['', 'files', 'rows', 'bytes'],
    [
      ['pending', pending.segments, pending.rows, pending.fileBytes],
      ['kept', kept.segments, kept.rows, kept.fileBytes],
      ['spare', spares.files, undefined, spares.fileBytes],
      ['set aside', setAside.files, undefined, setAside.fileBytes],
    ],
  );
  const commits =
    report.oldestCommit === undefined
      ? 'nothing is pending'
      : `pending of ${count(report.epochs, 'epoch')}, committed from ${report.oldestCommit} to ${report.newestCommit}`;
  const damaged =
    report.damagedSegments === 0
      ? ''
      : `! ${count(report.damagedSegments, 'segment')} damaged: see "penstock wal verify"\n`;
  return `${report.directory}\n${counts}${commits}\n${damaged}`;
}
