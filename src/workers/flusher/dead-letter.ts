import fs from 'node:fs';
import path from 'node:path';
import { type StoredEvent, readRow } from './rows.js';

/**
 * Events that ClickHouse does not take, each with the reason: JSON lines, a file for each segment that had any. A file is
 * written whole and synced before its segment goes, and again when the segment is shipped again: a crash in between
 * neither loses a letter nor doubles one.
 */
export interface DeadLetter {
  /** `EPOCH:SEQUENCE`: the event's place in the log. */
  readonly id: string;
  /** When it was set aside, ISO 8601. */
  readonly at: string;
  /** The file name of its segment. */
  readonly segment: string;
  /** ClickHouse's error code and message. */
  readonly error: { readonly code: string; readonly message: string };
  readonly event: StoredEvent['event'];
  /** Unix µs. */
  readonly receivedAtUs: number;
  /** The row's bytes as they were refused, base64. */
  readonly row: string;
}

const SUFFIX = '.jsonl';
/** A server's message may quote the whole row. */
const MESSAGE_MAX_CHARS = 1_000;

export function deadLetterDirectory(dataDir: string): string {
  return path.join(dataDir, 'dead-letter');
}

export class DeadLetterStoreFull extends Error {}

export class DeadLetterStore {
  readonly directory: string;
  readonly #maxBytes: number;

  constructor(directory: string, maxBytes: number) {
    this.directory = directory;
    this.#maxBytes = maxBytes;
  }

  /** Bytes of all letters. */
  get bytes(): number {
    return this.files().reduce((sum, name) => sum + fs.statSync(path.join(this.directory, name)).size, 0);
  }

  /** File names, oldest segment first. */
  files(): string[] {
    if (!fs.existsSync(this.directory)) return [];
    return fs
      .readdirSync(this.directory)
      .filter((name) => name.endsWith(SUFFIX))
      .sort();
  }

  read(name: string): DeadLetter[] {
    const text = fs.readFileSync(path.join(this.directory, name), 'utf8');
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as DeadLetter);
  }

  /** Replaces the letters of one file, durably; none removes it. Throws DeadLetterStoreFull beyond the store's limit. */
  write(name: string, letters: readonly DeadLetter[]): void {
    const target = path.join(this.directory, name);
    if (letters.length === 0) {
      fs.rmSync(target, { force: true });
      return;
    }
    fs.mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const text = letters.map((letter) => `${JSON.stringify(letter)}\n`).join('');
    const before = fs.existsSync(target) ? fs.statSync(target).size : 0;
    if (this.bytes - before + Buffer.byteLength(text) > this.#maxBytes) {
      throw new DeadLetterStoreFull(
        `the dead-letter store ${this.directory} is at its limit of ${this.#maxBytes} bytes: look at it with ` +
          '"penstock dead-letter ls", then requeue or purge',
      );
    }
    const temporary = `${target}.tmp`;
    const fd = fs.openSync(temporary, 'w', 0o600);
    try {
      fs.writeFileSync(fd, text);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(temporary, target);
    syncDirectory(this.directory);
  }
}

/** The name of a segment's letters: in the order of the log. */
export function letterFile(epoch: bigint, firstSequence: bigint): string {
  return `${epoch.toString(16).padStart(16, '0')}-${String(firstSequence).padStart(20, '0')}${SUFFIX}`;
}

export function deadLetter(
  row: Buffer,
  place: { readonly epoch: bigint; readonly sequence: bigint; readonly segment: string },
  error: { readonly code: string; readonly message: string },
): DeadLetter {
  const { event, receivedAtUs } = readRow(row, 0);
  return {
    id: `${place.epoch}:${place.sequence}`,
    at: new Date().toISOString(),
    segment: place.segment,
    error: { code: error.code, message: error.message.slice(0, MESSAGE_MAX_CHARS).toWellFormed() },
    event,
    receivedAtUs,
    row: row.toString('base64'),
  };
}

function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, 'r');
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
