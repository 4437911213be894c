import assert from 'node:assert/strict';
import { test } from 'node:test';
import { xxhash128 } from 'hash-wasm';
import { HASH_CHUNK_BYTES, Xxh128 } from '../../../../src/workers/encoder/xxh128.js';

const direct = new Xxh128();
const bytes = Buffer.from(
  Uint8Array.from({ length: 3 * HASH_CHUNK_BYTES }, (_, index) => (index * 167 + (index >> 8) * 31) & 0xff),
);

/** The hash of the first bytes, taken in as chunks of these lengths. */
function hash(...lengths: readonly number[]): string {
  direct.begin();
  let from = 0;
  for (const length of lengths) {
    bytes.copy(direct.chunk.buffer, 0, from, from + length);
    direct.chunk.at = length;
    direct.update();
    from += length;
  }
  return Buffer.from(direct.end()).toString('hex');
}

test('the hash of any length is the one that hash-wasm gives', async () => {
  const lengths = [...Array(1100).keys(), HASH_CHUNK_BYTES - 1, HASH_CHUNK_BYTES];
  for (const length of lengths)
    assert.equal(hash(length), await xxhash128(bytes.subarray(0, length)), `${length} bytes`);
});

test('the hash is the same in however many pieces its input comes', async () => {
  for (const lengths of [
    [1, 1],
    [100, 140],
    [240, 1],
    [255, 2],
    [9_000, HASH_CHUNK_BYTES],
    [1, HASH_CHUNK_BYTES, HASH_CHUNK_BYTES],
  ]) {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    assert.equal(hash(...lengths), await xxhash128(bytes.subarray(0, total)), lengths.join(' + '));
  }
});

test('a hash is not changed by what was hashed before it, or was begun and left', async () => {
  const expected = await xxhash128(bytes.subarray(0, 200));
  hash(1000);
  assert.equal(hash(200), expected);
  direct.begin();
  direct.chunk.at = 77;
  direct.update();
  assert.equal(hash(200), expected);
});
