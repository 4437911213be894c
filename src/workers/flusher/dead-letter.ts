import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { type StoredEvent, readRow } from './rows.js';

/**
 * Events that ClickHouse does not take, each with the reason: JSON lines, a file for each segment that had any, written whole
 * and synced before its segment goes.
 *
 * Two processes change the store without a lock: the shipper adds, an operator's command takes away. That loses no letter,
 * because a name is used once: the shipper never writes over a file, so nobody can bring back an older content of it, and
 * every later content of a file is a part of an earlier one. When a segment is shipped again after a crash, its letters are
 * written to a new file before the old one goes; in between, a letter may be seen twice, and its id says so.
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
/** What an operator has thrown away, by id only, so that `penstock audit` can account for it. */
const PURGED_FILE = 'purged.log';
/** A server's message may quote the whole row. */
const MESSAGE_MAX_CHARS = 1_000;

export function deadLetterDirectory(dataDir: string): string {
  return path.join(dataDir, 'dead-letter');
}

class DeadLetterStoreFull extends Error {}

export class DeadLetterStore {
  readonly directory: string;
  readonly #maxBytes: number;

  constructor(directory: string, maxBytes: number = Infinity) {
    this.directory = directory;
    this.#maxBytes = maxBytes;
  }

  /** Bytes of all letters. */
  get bytes(): number {
    return this.files().reduce((sum, name) => sum + sizeOf(path.join(this.directory, name)), 0);
  }

  /** File names, oldest segment first. */
  files(): string[] {
    if (!fs.existsSync(this.directory)) return [];
    return fs
      .readdirSync(this.directory)
      .filter((name) => name.endsWith(SUFFIX))
      .toSorted();
  }

  /** The letters of one file; none where it has gone meanwhile. */
  read(name: string): DeadLetter[] {
    const file = path.join(this.directory, name);
    const lines = readIfThere(file).split('\n');
    return lines.flatMap((line, at) => (line === '' ? [] : [parseLetter(line, `${file}, line ${at + 1}`)]));
  }

  /** Takes in the letters of one segment, durably, in place of those that it had. Throws DeadLetterStoreFull at the limit. */
  put(epoch: bigint, firstSequence: bigint, letters: readonly DeadLetter[]): void {
    const prefix = `${epoch.toString(16).padStart(16, '0')}-${String(firstSequence).padStart(20, '0')}-`;
    const earlier = this.files().filter((name) => name.startsWith(prefix));
    if (letters.length > 0) {
      const text = textOf(letters);
      const before = earlier.reduce((sum, name) => sum + sizeOf(path.join(this.directory, name)), 0);
      if (this.bytes - before + Buffer.byteLength(text) > this.#maxBytes) {
        throw new DeadLetterStoreFull(
          `the dead-letter store ${this.directory} is at its limit of ${this.#maxBytes} bytes: look at it with ` +
            '"penstock dead-letter ls", then requeue or purge',
        );
      }
      fs.mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      this.#write(`${prefix}${randomBytes(4).toString('hex')}${SUFFIX}`, text);
    }
    for (const name of earlier) fs.rmSync(path.join(this.directory, name), { force: true });
  }

  /** Leaves these of a file's letters, durably; none removes it. The limit is no matter: a store that is full must shrink. */
  reduce(name: string, letters: readonly DeadLetter[]): void {
    if (letters.length === 0) fs.rmSync(path.join(this.directory, name), { force: true });
    else if (fs.existsSync(path.join(this.directory, name))) this.#write(name, textOf(letters));
  }

  /** Notes durably that these letters are thrown away; to be called before they are. */
  notePurged(ids: readonly string[]): void {
    const fd = fs.openSync(path.join(this.directory, PURGED_FILE), 'a', 0o600);
    try {
      // A line that a crash cut short ends here: it must not take this one with it.
      fs.writeFileSync(fd, ids.map((id) => `\n${id} ${new Date().toISOString()}`).join(''));
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    syncDirectory(this.directory);
  }

  /** Ids of letters that were thrown away. */
  purged(): string[] {
    const lines = readIfThere(path.join(this.directory, PURGED_FILE)).split('\n');
    return lines.flatMap((line) => /^(\d+:\d+) \d{4}-/.exec(line)?.[1] ?? []);
  }

  #write(name: string, text: string): void {
    const target = path.join(this.directory, name);
    const temporary = `${target}.${randomBytes(4).toString('hex')}.tmp`;
    const fd = fs.openSync(temporary, 'wx', 0o600);
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

export function letterError(error: { readonly code: string; readonly message: string }): DeadLetter['error'] {
  return { code: error.code, message: error.message.slice(0, MESSAGE_MAX_CHARS).toWellFormed() };
}

function textOf(letters: readonly DeadLetter[]): string {
  return letters.map((letter) => `${JSON.stringify(letter)}\n`).join('');
}

function parseLetter(line: string, where: string): DeadLetter {
  try {
    return JSON.parse(line) as DeadLetter;
  } catch (error) {
    throw new Error(`${where} is no dead letter: move the file away, or mend it`, { cause: error });
  }
}

function readIfThere(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}

/** A command may be taking the file away at this moment. */
function sizeOf(file: string): number {
  return fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
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
    error: letterError(error),
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
