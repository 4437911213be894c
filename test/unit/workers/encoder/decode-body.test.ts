import assert from 'node:assert/strict';
import { test } from 'node:test';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { ENCODINGS, type BodyEncoding } from '../../../../src/shared/channel.js';
import { RequestError } from '../../../../src/shared/errors.js';
import { decodeBody } from '../../../../src/workers/encoder/decode-body.js';
import { tries } from '../../../support/property.js';

const { zstdCompressSync } = zlib as { zstdCompressSync?: (body: Uint8Array) => Buffer };

const ENCODERS: readonly (readonly [BodyEncoding, (body: Uint8Array) => Buffer])[] = [
  ['gzip', (body) => zlib.gzipSync(body)],
  ['br', (body) => zlib.brotliCompressSync(body, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } })],
  ['deflate', (body) => zlib.deflateSync(body)],
  ['deflate', (body) => zlib.deflateRawSync(body)],
  ...(zstdCompressSync === undefined ? [] : [['zstd', zstdCompressSync] as const]),
];

function refusalOf(decode: () => unknown): RequestError {
  try {
    decode();
  } catch (error) {
    assert.ok(error instanceof RequestError, String(error));
    return error;
  }
  return assert.fail('nothing was refused');
}

test('what was encoded is decoded, both kinds of deflate too', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 5000, size: 'max' }), (body) => {
      for (const [name, encode] of ENCODERS) assert.ok(decodeBody(encode(body), name, 5000).equals(body), name);
    }),
    tries(50),
  );
});

test('a body may decode to exactly the limit, and to no byte more', () => {
  for (const size of [1, 1000, 16 * 1024, 100_001]) {
    for (const [name, encode] of ENCODERS) {
      const encoded = encode(Buffer.alloc(size));
      assert.equal(decodeBody(encoded, name, size).length, size);
      if (size === 1) continue;
      const refusal = refusalOf(() => decodeBody(encoded, name, size - 1));
      assert.deepEqual([refusal.code, refusal.status], ['payload_too_large', 413], name);
    }
  }
});

test('a body that is cut short or is none is the client’s fault, and is named', () => {
  for (const [name, encode] of ENCODERS) {
    const encoded = encode(Buffer.from('some text that is worth encoding, some text that is not'));
    for (let length = 0; length < encoded.length; length += 1) {
      const refusal = refusalOf(() => decodeBody(encoded.subarray(0, length), name, 1000));
      assert.deepEqual([refusal.code, refusal.status], ['validation_error', 400], `${name}, ${length} bytes`);
      assert.match(refusal.message, new RegExp(`not valid ${name}`));
      assert.deepEqual(refusal.details, [{ path: '', message: refusal.message }]);
    }
  }
});

test('on any bytes nothing but a refusal is thrown', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 100 }),
      fc.constantFrom(...ENCODERS),
      fc.nat(),
      (garbage, [name, encode], at) => {
        const encoded = encode(Buffer.from('a body'));
        for (const body of [Buffer.from(garbage), Buffer.concat([encoded.subarray(0, at % encoded.length), garbage])]) {
          try {
            decodeBody(body, name, 1000);
          } catch (error) {
            assert.ok(error instanceof RequestError && error.status < 500, String(error));
          }
        }
      },
    ),
    tries(500),
  );
});

test('an encoding that this runtime does not have is refused as such', () => {
  for (const name of ENCODINGS) {
    if (name === 'identity' || ENCODERS.some(([known]) => known === name)) continue;
    assert.equal(name, 'zstd');
    assert.equal(refusalOf(() => decodeBody(Buffer.from('x'), name, 10)).status, 415);
  }
});
