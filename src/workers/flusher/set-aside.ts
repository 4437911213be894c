import fs from 'node:fs';
import path from 'node:path';
import type { Logger } from '../../shared/log.js';
import type { Gap } from './wal/segment-reader.js';

/** Moves or copies what cannot be shipped to `damaged/` beside the segments, and says so: nothing is dropped silently. */

export function damagedDirectory(walDirectory: string): string {
  return path.join(walDirectory, 'damaged');
}

type Why =
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'headless' }
  | { readonly kind: 'unreadable' }
  /** The disk does not give it. */
  | { readonly kind: 'disk'; readonly error: string };

/** A whole segment. */
export function setAsideSegment(file: string, why: Why, log: Logger): void {
  const target = path.join(openDamaged(path.dirname(file)), path.basename(file));
  fs.renameSync(file, target);
  log.error({ file, target }, `a segment is set aside: ${explain(why)}`);
}

function explain(why: Why): string {
  switch (why.kind) {
    case 'newer':
      return `it was written by a newer release (format ${why.version}); ship it with that release's "penstock wal replay"`;
    case 'headless':
      return 'its head is damaged';
    case 'disk':
      return `the disk does not give it (${why.error}); "penstock wal verify" tells what of it can be read`;
    case 'unreadable':
      return 'ClickHouse cannot read its rows, which is a fault of Penstock; please report it with the file';
  }
}

/** The bytes of a damaged stretch; the frames around it ship. */
export function setAsideDamage(file: string, gap: Gap, log: Logger): void {
  const copy = path.join(openDamaged(path.dirname(file)), `${path.basename(file)}.${gap.offset}`);
  const fd = fs.openSync(file, 'r');
  try {
    const range = Buffer.alloc(gap.bytes);
    fs.readSync(fd, range, 0, gap.bytes, gap.offset);
    fs.writeFileSync(copy, range, { mode: 0o600 });
  } finally {
    fs.closeSync(fd);
  }
  log.error({ file, ...gap, copy }, 'the log is damaged: this stretch is set aside, everything around it ships');
}

function openDamaged(walDirectory: string): string {
  const directory = damagedDirectory(walDirectory);
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}
