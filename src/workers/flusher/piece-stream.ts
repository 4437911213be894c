import { Readable, type Writable } from 'node:stream';

/**
 * Rows on their way from a segment's file to the socket, in pieces out of a few buffers that are used again and again. A new one for each
 * waited for a collection, in a thread that makes little else: up to 30 MiB of them, and a mark-compact of all for each segment.
 *
 * A buffer may be filled anew only when the system has its bytes, or other rows would be sent in their place. That is known from what is
 * still on the way: this stream's own buffer, and `writableLength` of what it is piped into, which is Node's count of the bytes that no
 * write has ended with yet (of a request: its own and its socket's). It counts framing as well, so it is never too low.
 * Where nobody pipes, nothing is known, and every piece has a buffer of its own.
 */

export const PIECE_BYTES = 256 * 1024;

/** Buffers of PIECE_BYTES that nobody reads from or writes to. One owner for all INSERTs of a thread. */
export class PieceBuffers {
  readonly #free: Buffer[] = [];

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
  }

  giveBack(buffer: Buffer): void {
    this.#free.push(buffer);
  }
}

/** Gives a buffer of PIECE_BYTES for the next piece, which need not be used. */
export type TakeBuffer = () => Buffer;

/** The pieces in order, none of them empty; whatever one is in stays as it is, but for what `take` gave. */
export type PieceSource = (take: TakeBuffer) => AsyncIterable<Buffer> | Iterable<Buffer>;

interface Lent {
  readonly buffer: Buffer;
  /** Bytes of the stream up to the end of the piece in it; unknown while it is being filled. */
  end: number | undefined;
}

export class PieceStream extends Readable {
  readonly #buffers: PieceBuffers;
  readonly #pieces: AsyncIterator<Buffer> | Iterator<Buffer>;
  /** In the order of the stream. */
  readonly #lent: Lent[] = [];
  #pushed = 0;
  #target: Pick<Writable, 'writableLength'> | undefined;

  constructor(source: PieceSource, buffers: PieceBuffers) {
    super();
    this.#buffers = buffers;
    const pieces = source(() => this.#take());
    this.#pieces = Symbol.asyncIterator in pieces ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]();
  }

  /** The reader has all of it. Otherwise, whatever buffers may still be on their way are given up. */
  confirmed(): void {
    for (const { buffer } of this.#lent.splice(0)) this.#buffers.giveBack(buffer);
  }

  override pipe<T extends NodeJS.WritableStream>(target: T, options?: { end?: boolean }): T {
    if (this.#target !== undefined) throw new Error('a PieceStream has one reader: another might be behind it');
    // What has no such count is no Node stream: then nothing is known.
    if ('writableLength' in target) this.#target = target as T & Pick<Writable, 'writableLength'>;
    return super.pipe(target, options);
  }

  override _read(): void {
    void this.#next();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    void this.#close(error, callback);
  }

  async #next(): Promise<void> {
    try {
      const next = await this.#pieces.next();
      if (next.done === true) {
        this.push(null);
        return;
      }
      const piece = next.value;
      this.#pushed += piece.length;
      const last = this.#lent.at(-1);
      if (last !== undefined && last.end === undefined && last.buffer.buffer === piece.buffer) last.end = this.#pushed;
      this.push(piece);
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  async #close(error: Error | null, callback: (error?: Error | null) => void): Promise<void> {
    try {
      // Comes behind a piece that is just being read: its file is in use until then.
      await this.#pieces.return?.();
    } catch {
      // The stream has ended already, well or with an error of its own.
    }
    callback(error);
  }

  #take(): Buffer {
    const last = this.#lent.at(-1);
    if (last !== undefined && last.end === undefined) return last.buffer;
    if (this.#target === undefined) return Buffer.allocUnsafeSlow(PIECE_BYTES);
    this.#takeBack(this.#pushed - this.readableLength - this.#target.writableLength);
    const buffer = this.#buffers.take();
    this.#lent.push({ buffer, end: undefined });
    return buffer;
  }

  /** Takes back the buffers whose bytes are among the first `written` of the stream. */
  #takeBack(written: number): void {
    for (let first = this.#lent[0]; first?.end !== undefined && first.end <= written; first = this.#lent[0]) {
      this.#lent.shift();
      this.#buffers.giveBack(first.buffer);
    }
  }
}
