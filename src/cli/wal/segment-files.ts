import fs from 'node:fs';
import path from 'node:path';
import { ordinalOf } from '../../workers/flusher/wal/format.js';
import { type OnPayload, scanSegment, type SegmentScan } from '../../workers/flusher/wal/segment-reader.js';

/**
 * Segments as a reader beside a running instance sees them. Three things move under its hands: a confirmed segment goes away,
 * or becomes another under another name; the active one grows. So what looks broken is read again until it looks the same
 * twice, and what is gone was confirmed: ClickHouse has it.
 */

export interface SegmentFile {
  readonly file: string;
  readonly name: string;
  readonly ordinal: number;
}

/** The segments of a directory in order; none where it does not exist. */
export function segmentFiles(directory: string): SegmentFile[] {
  return listDirectory(directory)
    .flatMap((name) => {
      const ordinal = ordinalOf(name);
      return ordinal === undefined ? [] : [{ file: path.join(directory, name), name, ordinal }];
    })
    .toSorted((a, b) => a.ordinal - b.ordinal);
}

export function listDirectory(directory: string): string[] {
  return fs.existsSync(directory) ? fs.readdirSync(directory).toSorted() : [];
}

const READINGS_MAX = 10;

/** Undefined where the file is gone. The payloads are those of one reading: `restart` says that they come anew. */
export function scanSteadily(
  file: string,
  onPayload: OnPayload = () => undefined,
  restart: () => void = () => undefined,
): SegmentScan | undefined {
  let before = '';
  for (let reading = 1; ; reading += 1) {
    restart();
    const scan = scanIfThere(file, onPayload);
    if (scan === undefined) return undefined;
    const trouble = troubleOf(scan);
    if (trouble === '' || trouble === before || reading === READINGS_MAX) return scan;
    before = trouble;
  }
}

function scanIfThere(file: string, onPayload: OnPayload): SegmentScan | undefined {
  try {
    return scanSegment(file, onPayload);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function troubleOf(scan: SegmentScan): string {
  if (scan.kind !== 'segment') return scan.kind;
  return scan.damages.length === 0 && scan.tear === undefined ? '' : JSON.stringify([scan.damages, scan.tear]);
}

/**
 * The log's folder and the data directory around it: `given` may be either, for an operator with a rescued volume in his hands
 * should not have to know which.
 */
export function locateLog(given: string): { readonly dataDir: string; readonly walDirectory: string } {
  const directory = path.resolve(given);
  const inside = path.join(directory, 'wal');
  if (fs.existsSync(inside)) return { dataDir: directory, walDirectory: inside };
  return { dataDir: path.dirname(directory), walDirectory: directory };
}
