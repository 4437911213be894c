import { readRow, walkRows } from '../../workers/flusher/rows.js';
import type { FrameRef, SegmentScan } from '../../workers/flusher/wal/segment-reader.js';
import { EXIT_FINDING, EXIT_WELL, print, Progress } from '../console.js';
import { scanSteadily, segmentFiles } from './segment-files.js';

/** `penstock wal dump`: the log as text, segment by segment, in order; never more than one segment in memory. */

export async function dump(
  walDirectory: string,
  { json, events }: { readonly json: boolean; readonly events: boolean },
): Promise<number> {
  const progress = new Progress();
  let dumped = 0;
  let bad = 0;
  for (const { file, name } of segmentFiles(walDirectory)) {
    const payloads: Buffer[] = [];
    // Copied at once: beside a running instance, the file may be gone before the events are written.
    const onPayload = (payload: Buffer): void => void (events && payloads.push(Buffer.from(payload)));
    const scan = scanSteadily(file, onPayload, () => payloads.splice(0));
    if (scan === undefined) continue;
    if (scan.kind !== 'segment') {
      if (scan.kind !== 'unborn') bad += 1;
      process.stderr.write(`${name}: ${scan.kind}\n`);
      continue;
    }
    bad += scan.damages.length;
    if (events) await dumpEvents(name, scan.frames, payloads);
    else await dumpFrames(name, scan, json);
    dumped += scan.rows;
    progress.tick(() => `${dumped} rows`);
  }
  return bad === 0 ? EXIT_WELL : EXIT_FINDING;
}

type IntactScan = SegmentScan & { readonly kind: 'segment' };

async function dumpFrames(segment: string, { head, frames, damages, tear }: IntactScan, json: boolean): Promise<void> {
  const epoch = String(head.epoch);
  if (!json) await print(`${segment}  epoch ${epoch}  created ${new Date(head.createdAtMs).toISOString()}\n`);
  for (const { offset, firstSequence, rows, length, syncedBytes, committedAtMs } of frames) {
    const committedAt = new Date(committedAtMs).toISOString();
    await print(
      json
        ? `${JSON.stringify({ segment, epoch, offset, firstSequence: String(firstSequence), rows, bytes: length, syncedBytes, committedAt })}\n`
        : `  ${String(offset).padStart(10)}  ${committedAt}  sequence ${firstSequence}, ${rows} rows, ${length} bytes\n`,
    );
  }
  for (const { offset, bytes } of damages)
    process.stderr.write(`${segment}: damaged at byte ${offset}, ${bytes} bytes\n`);
  if (tear !== undefined) process.stderr.write(`${segment}: torn at byte ${tear.offset}\n`);
}

async function dumpEvents(segment: string, frames: readonly FrameRef[], payloads: readonly Buffer[]): Promise<void> {
  for (const [at, { epoch, firstSequence, committedAtMs }] of frames.entries()) {
    const payload = payloads[at];
    if (payload === undefined) continue;
    const ends: number[] = [0];
    walkRows(payload, (end) => ends.push(end));
    const committedAt = new Date(committedAtMs).toISOString();
    let lines = '';
    for (let row = 0; row + 1 < ends.length; row += 1) {
      const { event, receivedAtUs } = readRow(payload, ends[row] ?? 0);
      const id = `${epoch}:${firstSequence + BigInt(row)}`;
      lines += `${JSON.stringify({ id, segment, committedAt, receivedAtUs, event })}\n`;
      if (lines.length < 64 * 1024) continue;
      await print(lines);
      lines = '';
    }
    await print(lines);
  }
}
