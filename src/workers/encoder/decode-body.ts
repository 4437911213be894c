import zlib from 'node:zlib';
import type { BodyEncoding } from '../../shared/channel.js';
import { messageOf, RequestError } from '../../shared/errors.js';

/**
 * Decodes a body's `Content-Encoding`, the limit applied while decoding: a small body that would become a huge one costs no
 * more than the limit. Synchronous: an encoder does not return to its event loop.
 */
type Inflate = (body: Uint8Array, options: { maxOutputLength: number }) => Buffer;

/** Node has zstd from 22.15 on. */
const zstdDecompress = (zlib as { zstdDecompressSync?: Inflate }).zstdDecompressSync;

/** Node decompresses what there is of a frame that is cut short, without a word. */
const zstd: Inflate | undefined =
  zstdDecompress &&
  ((body, options) => {
    if (!isWholeZstd(Buffer.from(body.buffer, body.byteOffset, body.byteLength))) throw new Error('unexpected end');
    return zstdDecompress(body, options);
  });

const DECODERS: Readonly<Record<BodyEncoding, Inflate | undefined>> = {
  identity: undefined,
  gzip: zlib.gunzipSync,
  br: zlib.brotliDecompressSync,
  deflate: inflateEither,
  zstd,
};

export function decodeBody(body: Buffer, encoding: BodyEncoding, maxBytes: number): Buffer {
  const decode = DECODERS[encoding];
  if (decode === undefined)
    throw new RequestError('unsupported_encoding', `Content-Encoding ${encoding} is not supported`);
  try {
    return decode(body, { maxOutputLength: maxBytes });
  } catch (error) {
    if (error instanceof RangeError && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') {
      throw new RequestError('payload_too_large', `the decoded body is larger than ${maxBytes} bytes`, {
        cause: error,
      });
    }
    const message = `the body is not valid ${encoding}: ${messageOf(error)}`;
    throw new RequestError('validation_error', message, { details: [{ path: '', message }], cause: error });
  }
}

/** `deflate` means zlib's format (RFC 9110), but some clients send the raw one. */
function inflateEither(body: Uint8Array, options: { maxOutputLength: number }): Buffer {
  const first = body[0] ?? 0;
  const isZlib = (first & 0x0f) === 8 && ((first << 8) | (body[1] ?? 0)) % 31 === 0;
  return isZlib ? zlib.inflateSync(body, options) : zlib.inflateRawSync(body, options);
}

/** Whether the body ends where its last frame does, by the heads of frames and blocks (RFC 8878, section 3.1). */
function isWholeZstd(body: Buffer): boolean {
  let at = 0;
  while (at + 8 <= body.length) {
    const magic = body.readUInt32LE(at);
    if (magic >>> 4 === 0x184d2a5) {
      at += 8 + body.readUInt32LE(at + 4);
      continue;
    }
    const descriptor = body.readUInt8(at + 4);
    const isSingle = (descriptor & 0x20) !== 0;
    const sizeBytes = descriptor >> 6 === 0 ? Number(isSingle) : 1 << (descriptor >> 6);
    const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
    at += 5 + Number(!isSingle) + dictionaryBytes + sizeBytes;
    for (let isLast = false; !isLast;) {
      if (at + 3 > body.length) return false;
      const head = body.readUIntLE(at, 3);
      isLast = (head & 1) === 1;
      // A run has one byte, whatever its length.
      at += 3 + (((head >> 1) & 3) === 1 ? 1 : head >> 3);
    }
    if ((descriptor & 4) !== 0) at += 4;
  }
  return at > 0 && at === body.length;
}
