import zlib from 'node:zlib';
import type { BodyEncoding } from '../../shared/channel.js';
import { messageOf, RequestError } from '../../shared/errors.js';

/**
 * Decodes a body's `Content-Encoding`, the limit applied while decoding: a small body that would become a huge one costs no
 * more than the limit. Synchronous: an encoder does not return to its event loop.
 */
type Inflate = (body: Uint8Array, options: { maxOutputLength: number }) => Buffer;

/** Node has zstd from 22.15 on. */
const zstd = (zlib as { zstdDecompressSync?: Inflate }).zstdDecompressSync;

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
