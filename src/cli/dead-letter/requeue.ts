import type { ClickHouseClient, ClickHouseError } from '@clickhouse/client';
import { batchOf } from '../../workers/flusher/batch.js';
import { type DeadLetter, type DeadLetterStore, letterError } from '../../workers/flusher/dead-letter.js';
import { insertBatch } from '../../workers/flusher/insert.js';
import { type Isolated, isolate } from '../../workers/flusher/isolate.js';
import { type LedgerState, writeLedger } from '../../workers/flusher/ledger.js';
import { classify } from '../../workers/flusher/retry.js';

/**
 * Sends dead letters again, as the shipper would have: intent, INSERT, completion. Many letters go in one INSERT, but the
 * ledger has each of them as a batch of its own: whatever letters are sent together next time, the same letter has the same
 * token, and the arithmetic of the audit holds.
 *
 * A letter goes away only when its completion is noted. Where the command dies before, it is there to be sent again, and
 * counts once.
 */

interface Placed {
  readonly letter: DeadLetter;
  readonly epoch: bigint;
  readonly sequence: bigint;
  readonly bytes: Buffer;
}

/** One INSERT: small enough to be in memory twice. */
const BATCH_MAX_LETTERS = 5_000;
const BATCH_MAX_BYTES = 16 * 1024 * 1024;

export class Requeue {
  readonly #client: ClickHouseClient;
  readonly #database: string;
  readonly #store: DeadLetterStore;
  readonly #never = new AbortController();

  constructor(client: ClickHouseClient, database: string, store: DeadLetterStore) {
    this.#client = client;
    this.#database = database;
    this.#store = store;
  }

  /**
   * Letters of one file; returns those that are refused again, which stay with what ClickHouse says now. Throws where
   * ClickHouse is not to be reached: what is not confirmed by then stays.
   */
  async send(
    file: string,
    letters: readonly DeadLetter[],
    onStored: (letters: number) => void,
  ): Promise<readonly DeadLetter[]> {
    const refused: DeadLetter[] = [];
    for (const batch of inBatches(letters.map(place))) {
      const isolated = await this.#sendBatch(batch);
      const still = new Map(isolated.map(({ row, error }) => [batch[row]?.letter.id, refusedAgain(batch[row], error)]));
      this.#remove(file, batch, still);
      for (const letter of still.values()) if (letter !== undefined) refused.push(letter);
      onStored(batch.length - isolated.length);
    }
    return refused;
  }

  async #sendBatch(batch: readonly Placed[]): Promise<Isolated<ClickHouseError>[]> {
    await this.#note('intent', batch);
    const refusal = await this.#insert(batch);
    const isolated = refusal === undefined ? [] : await this.#insertInParts(batch, refusal);
    const refused = new Set(isolated.map(({ row }) => batch[row]));
    await this.#note(
      'completion',
      batch.filter((row) => !refused.has(row)),
    );
    await this.#note(
      'refused',
      batch.filter((row) => refused.has(row)),
    );
    return isolated;
  }

  async #insertInParts(batch: readonly Placed[], refusal: ClickHouseError): Promise<Isolated<ClickHouseError>[]> {
    return isolate(batch.length, refusal, (part) => this.#insert(part.flatMap((row) => batch[row] ?? [])));
  }

  /** Stores these letters; returns the error where ClickHouse does not take one of them. */
  async #insert(rows: readonly Placed[]): Promise<ClickHouseError | undefined> {
    const [first] = rows;
    if (first === undefined) return undefined;
    try {
      await insertBatch(this.#client, this.#database, batchOf(first.epoch, rows), this.#never.signal);
      return undefined;
    } catch (error) {
      const verdict = classify(error);
      if (verdict !== 'refused' && verdict !== 'unreadable') throw error;
      return error as ClickHouseError;
    }
  }

  async #note(state: LedgerState, rows: readonly Placed[]): Promise<void> {
    if (rows.length === 0) return;
    const each = rows.map((row) => batchOf(row.epoch, [row]));
    await writeLedger(this.#client, this.#database, [state], each, this.#never.signal);
  }

  /** Reads the file anew: since it was read, another command may have taken letters away. */
  #remove(
    file: string,
    batch: readonly Placed[],
    still: ReadonlyMap<string | undefined, DeadLetter | undefined>,
  ): void {
    const sent = new Map(batch.map(({ letter }) => [letter.id, letter.row]));
    const left = this.#store.read(file).flatMap((letter) => {
      if (sent.get(letter.id) !== letter.row) return [letter];
      return still.get(letter.id) ?? [];
    });
    this.#store.reduce(file, left);
  }
}

function* inBatches(letters: readonly Placed[]): Generator<Placed[]> {
  let batch: Placed[] = [];
  let bytes = 0;
  for (const letter of letters) {
    const other = batch[0] !== undefined && batch[0].epoch !== letter.epoch;
    if (other || batch.length >= BATCH_MAX_LETTERS || bytes + letter.bytes.length > BATCH_MAX_BYTES) {
      if (batch.length > 0) yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(letter);
    bytes += letter.bytes.length;
  }
  if (batch.length > 0) yield batch;
}

function place(letter: DeadLetter): Placed {
  const [epoch = '', sequence = ''] = letter.id.split(':');
  return { letter, epoch: BigInt(epoch), sequence: BigInt(sequence), bytes: Buffer.from(letter.row, 'base64') };
}

function refusedAgain(row: Placed | undefined, error: ClickHouseError): DeadLetter | undefined {
  if (row === undefined) return undefined;
  return { ...row.letter, at: new Date().toISOString(), error: letterError(error) };
}
