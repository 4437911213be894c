import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import {
  PIECE_BYTES,
  PieceBuffers,
  type PieceSource,
  PieceStream,
} from '../../../../src/workers/flusher/piece-stream.js';
import { tries } from '../../../support/property.js';

/** Rows in buffers that are used again: nothing that is still on the way may change. */

/** Fills with what belongs at `at` of the stream: each four bytes are another number. */
function fill(bytes: Buffer, at: number): Buffer {
  for (let i = 0; i < bytes.length; i += 1) {
    bytes[i] = Math.imul((at + i) >>> 2, 0x9e3779b1) >>> (8 * ((at + i) & 3));
  }
  return bytes;
}

function isRight(bytes: Buffer, at: number): boolean {
  return bytes.equals(fill(Buffer.alloc(bytes.length), at));
}

interface Pieces {
  readonly source: PieceSource;
  /** Different buffers that were given for them. */
  readonly given: Set<ArrayBufferLike>;
  closed: boolean;
}

/** Pieces of these lengths; those of a negative one are in a buffer of the source's own. */
function piecesOf(lengths: readonly number[]): Pieces {
  const pieces: Pieces = {
    given: new Set(),
    closed: false,
    source: async function* (take) {
      try {
        let at = 0;
        for (const length of lengths) {
          const buffer = take();
          pieces.given.add(buffer.buffer);
          await sleep(0);
          const piece = length < 0 ? Buffer.alloc(-length) : buffer.subarray(0, length);
          yield fill(piece, at);
          at += piece.length;
        }
      } finally {
        pieces.closed = true;
      }
    },
  };
  return pieces;
}

const bytesOf = (lengths: readonly number[]): number => lengths.reduce((sum, length) => sum + Math.abs(length), 0);

test('a piece is what it was until its write has ended, however late that is, and few buffers are enough', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.integer({ min: 1, max: 3_000 }), fc.integer({ min: -300, max: -1 })), { maxLength: 60 }),
      fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 1, max: 10_000 }),
      fc.boolean(),
      async (lengths, delays, highWaterMark, isGathering) => {
        let at = 0;
        let writes = 0;
        const wrong: number[] = [];
        const write = async (pieces: readonly Buffer[], done: () => void): Promise<void> => {
          writes += 1;
          for (let turns = delays[writes % delays.length] ?? 0; turns > 0; turns -= 1) await sleep(0);
          for (const piece of pieces) {
            if (!isRight(piece, at)) wrong.push(at);
            at += piece.length;
          }
          done();
        };
        const target = new Writable({
          highWaterMark,
          write: (piece: Buffer, _encoding, done) => void write([piece], done),
          ...(isGathering && {
            writev: (chunks, done) =>
              void write(
                chunks.map(({ chunk }) => chunk as Buffer),
                done,
              ),
          }),
        });
        const buffers = new PieceBuffers();
        const pieces = piecesOf(lengths);
        const stream = new PieceStream(pieces.source, buffers);
        await pipeline(stream, target);
        stream.confirmed();
        assert.deepEqual([wrong, at, pieces.closed], [[], bytesOf(lengths), true]);
        // What may be on its way at once, by the bounds of both streams, and one that is being filled.
        const smallest = Math.min(...lengths.map(Math.abs));
        const onTheWay = (highWaterMark + stream.readableHighWaterMark) / smallest + 3;
        assert.ok(pieces.given.size <= onTheWay);
        // All are free again, each once.
        const again = [...pieces.given].map(() => buffers.take().buffer);
        assert.deepEqual(new Set(again), pieces.given);
      },
    ),
    tries(150),
  );
});

test('a server that reads slowly gets 25 MB as they were, twice, out of a handful of buffers', async () => {
  let at = 0;
  let wrong = 0;
  const server = http.createServer((request, response) => {
    request.on('data', (piece: Buffer) => {
      if (!isRight(piece, at)) wrong += 1;
      at += piece.length;
      // Often enough that the system's own buffers are full most of the time.
      if (at % 5 !== 0) return;
      request.pause();
      setTimeout(() => request.resume(), 5);
    });
    request.on('end', () => response.end());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const lengths = Array.from({ length: 120 }, (_, i) => (i % 5 === 4 ? i : PIECE_BYTES - i));
  const buffers = new PieceBuffers();
  const given = new Set<ArrayBufferLike>();
  try {
    for (let time = 0; time < 2; time += 1) {
      at = 0;
      const pieces = piecesOf(lengths);
      const stream = new PieceStream(pieces.source, buffers);
      const request = http.request({ port, method: 'POST' });
      const answered = once(request, 'response');
      await pipeline(stream, request);
      await answered;
      stream.confirmed();
      for (const buffer of pieces.given) given.add(buffer);
      assert.deepEqual([wrong, at], [0, bytesOf(lengths)]);
    }
    assert.ok(given.size <= 6, `${given.size} buffers`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('what nobody pipes has a buffer for each piece', async () => {
  const pieces = piecesOf(Array.from({ length: 20 }, () => 1_000));
  const buffers = new PieceBuffers();
  const all: Buffer[] = [];
  for await (const piece of new PieceStream(pieces.source, buffers)) all.push(piece as Buffer);
  assert.ok(all.every((piece, i) => isRight(piece, 1_000 * i)));
  assert.equal(pieces.given.size, 20);
});

test('buffers that were on their way when it ended early are given up, and the source ends', async () => {
  const pieces = piecesOf(Array.from({ length: 20 }, () => 50_000));
  const buffers = new PieceBuffers();
  const held: Buffer[] = [];
  let release = (): void => undefined;
  const target = new Writable({
    write: (piece: Buffer, _encoding, done) => {
      held.push(piece);
      if (held.length < 3) done();
      else release();
    },
  });
  const stuck = new Promise<void>((resolve) => (release = resolve));
  const stream = new PieceStream(pieces.source, buffers);
  const sending = pipeline(stream, target);
  await stuck;
  stream.destroy(new Error('given up'));
  await assert.rejects(sending, /given up/);
  while (!pieces.closed) await sleep(0);
  const next = new Set([1, 2, 3, 4].map(() => buffers.take().buffer));
  assert.ok(!next.has(held[2]?.buffer ?? new ArrayBuffer(0)));
});

test('a source that fails ends the stream with its error', async () => {
  const failing: PieceSource = async function* (take) {
    yield take().subarray(0, 10);
    await sleep(0);
    throw new Error('cannot be read');
  };
  await assert.rejects(new PieceStream(failing, new PieceBuffers()).toArray(), /cannot be read/);
});

test('a second reader is refused', () => {
  const stream = new PieceStream(() => [], new PieceBuffers());
  stream.pipe(new Writable());
  assert.throws(() => stream.pipe(new Writable()), /one reader/);
});
