import fs from 'node:fs';
import path from 'node:path';
import { DeadLetterStore, deadLetterDirectory } from '../../workers/flusher/dead-letter.js';
import { keptDirectory } from '../../workers/flusher/disposal.js';
import { readRow, walkRows } from '../../workers/flusher/rows.js';
import { damagedDirectory } from '../../workers/flusher/set-aside.js';
import { walDirectory } from '../../workers/flusher/wal/file-system.js';
import { isSpare } from '../../workers/flusher/wal/format.js';
import { listDirectory, scanSteadily, segmentFiles } from '../wal/segment-files.js';

/**
 * What a data directory has of users, beside ClickHouse. May be called beside the instance that has the directory: it looks into
 * segments that are not confirmed, and leaves them alone; all that it removes is nobody's any more.
 */
export class LocalFiles {
  readonly #dataDir: string;
  readonly #walDirectory: string;
  readonly #userIds: ReadonlySet<string>;
  readonly #needles: readonly Buffer[];

  constructor(dataDir: string, userIds: readonly string[]) {
    this.#dataDir = dataDir;
    this.#walDirectory = walDirectory(dataDir);
    this.#userIds = new Set(userIds);
    this.#needles = userIds.map((id) => Buffer.from(id));
  }

  /** Segments with rows of them that ClickHouse has not confirmed. */
  pendingSegments(): number {
    return segmentFiles(this.#walDirectory).filter(({ file }) => this.#segmentHas(file)).length;
  }

  /** Removes kept segments with rows of them, the rows of others included: ClickHouse has those. Returns how many. */
  removeKept(): number {
    const files = segmentFiles(keptDirectory(this.#walDirectory)).filter(({ file }) => this.#segmentHas(file));
    for (const { file } of files) fs.rmSync(file, { force: true });
    return files.length;
  }

  /** Removes files of confirmed segments that wait to be written over. */
  removeSpares(): void {
    for (const name of listDirectory(this.#walDirectory).filter(isSpare)) {
      const file = path.join(this.#walDirectory, name);
      // The log thread may take it at this moment; it makes a new file where it finds none.
      if (this.#fileMayHave(file)) fs.rmSync(file, { force: true });
    }
  }

  /** Files that were set aside and may have something of them: what is damaged cannot be taken apart. */
  setAside(): string[] {
    const directory = damagedDirectory(this.#walDirectory);
    return listDirectory(directory)
      .map((name) => path.join(directory, name))
      .filter((file) => this.#fileMayHave(file));
  }

  /** Removes their dead letters, and notes that these were purged, so that the audit accounts for them. Returns how many. */
  removeDeadLetters(): number {
    const store = new DeadLetterStore(deadLetterDirectory(this.#dataDir));
    let removed = 0;
    for (const file of store.files()) {
      const letters = store.read(file);
      const theirs = letters.filter(({ event }) => this.#userIds.has(event.user_id));
      if (theirs.length === 0) continue;
      store.notePurged(theirs.map(({ id }) => id));
      store.reduce(
        file,
        letters.filter((letter) => !theirs.includes(letter)),
      );
      removed += theirs.length;
    }
    return removed;
  }

  #segmentHas(file: string): boolean {
    let has = false;
    scanSteadily(file, (payload) => {
      has ||= this.#mayHave(payload) && this.#payloadHas(payload);
    });
    return has;
  }

  #payloadHas(payload: Buffer): boolean {
    let has = false;
    let from = 0;
    walkRows(payload, (end) => {
      has ||= this.#mayHave(payload.subarray(from, end)) && this.#userIds.has(readRow(payload, from).event.user_id);
      from = end;
    });
    return has;
  }

  #fileMayHave(file: string): boolean {
    try {
      return this.#mayHave(fs.readFileSync(file));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
      throw error;
    }
  }

  #mayHave(bytes: Buffer): boolean {
    return this.#needles.some((needle) => bytes.includes(needle));
  }
}
