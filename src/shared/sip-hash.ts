/**
 * sipHash128 as ClickHouse computes it for one String: SipHash-2-4 with a key of zeros, whose last state is folded to 128 bits
 * (its `sipHash128`, which is not the reference's). In this process, so that an id need not be sent anywhere to be hashed. Not fast:
 * a few microseconds for a short text.
 */

const MASK = 0xffffffffffffffffn;

export function sipHash128(bytes: Uint8Array): Buffer {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = bytes.length >>> 3;
  let v0 = 0x736f6d6570736575n;
  let v1 = 0x646f72616e646f6dn;
  let v2 = 0x6c7967656e657261n;
  let v3 = 0x7465646279746573n;
  const round = (): void => {
    v0 = (v0 + v1) & MASK;
    v1 = rotate(v1, 13n) ^ v0;
    v0 = rotate(v0, 32n);
    v2 = (v2 + v3) & MASK;
    v3 = rotate(v3, 16n) ^ v2;
    v0 = (v0 + v3) & MASK;
    v3 = rotate(v3, 21n) ^ v0;
    v2 = (v2 + v1) & MASK;
    v1 = rotate(v1, 17n) ^ v2;
    v2 = rotate(v2, 32n);
  };
  const take = (word: bigint): void => {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  };
  for (let i = 0; i < words; i += 1) take(view.getBigUint64(i * 8, true));
  let last = BigInt(bytes.length & 0xff) << 56n;
  for (let i = words * 8; i < bytes.length; i += 1) last |= BigInt(bytes[i] ?? 0) << BigInt((i & 7) * 8);
  take(last);
  v2 ^= 0xffn;
  for (let i = 0; i < 4; i += 1) round();
  const hash = Buffer.alloc(16);
  hash.writeBigUInt64LE(v0 ^ v1, 0);
  hash.writeBigUInt64LE(v2 ^ v3, 8);
  return hash;
}

function rotate(word: bigint, by: bigint): bigint {
  return ((word << by) | (word >> (64n - by))) & MASK;
}
