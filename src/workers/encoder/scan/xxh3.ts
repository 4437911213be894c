/**
 * XXH3-128 with seed 0 and the default secret, as https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md has it: one
 * way for up to 128 bytes, one for up to 240, one for all that is longer, there with two lanes at a time. Inputs of up to 16
 * bytes have ways of their own, which are left out: a canonical form has 33 bytes beside its texts.
 */

export let hashHigh: u64 = 0;
export let hashLow: u64 = 0;

const PRIME32_1: u64 = 0x9e3779b1;
const PRIME32_2: u64 = 0x85ebca77;
const PRIME32_3: u64 = 0xc2b2ae3d;
const PRIME64_1: u64 = 0x9e3779b185ebca87;
const PRIME64_2: u64 = 0xc2b2ae3d27d4eb4f;
const PRIME64_3: u64 = 0x165667b19e3779f9;
const PRIME64_4: u64 = 0x85ebca77c2b2ae63;
const PRIME64_5: u64 = 0x27d4eb2f165667c5;

const SECRET_BYTES: usize = 192;
const SECRET: usize = memory.data<u8>([
  0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d,
  0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0,
  0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0,
  0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b,
  0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac,
  0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51,
  0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34,
  0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49,
  0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8,
  0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b,
  0x40, 0x7e,
]);

/** Hashes 17 bytes or more, into `hashHigh` and `hashLow`. */
export function hash(at: usize, length: usize): void {
  if (length > 240) hashLong(at, length);
  else hashMiddle(at, length);
}

function avalanche(value: u64): u64 {
  const product = (value ^ (value >> 37)) * 0x165667919e3779f9;
  return product ^ (product >> 32);
}

/** The two halves of the product of 128 bits, one upon the other. */
function foldedProduct(a: u64, b: u64): u64 {
  const aLow = a & 0xffffffff;
  const aHigh = a >> 32;
  const bLow = b & 0xffffffff;
  const bHigh = b >> 32;
  const cross = aHigh * bLow;
  const middle = ((aLow * bLow) >> 32) + (cross & 0xffffffff) + aLow * bHigh;
  return (a * b) ^ (aHigh * bHigh + (cross >> 32) + (middle >> 32));
}

/** Sixteen bytes with as many of the secret. */
function mixed(at: usize, secret: usize): u64 {
  return foldedProduct(load<u64>(at) ^ load<u64>(secret), load<u64>(at, 8) ^ load<u64>(secret, 8));
}

/** Takes two times sixteen bytes into the hash so far. */
function mix(a: usize, b: usize, secret: usize): void {
  hashLow = (hashLow + mixed(a, secret)) ^ (load<u64>(b) + load<u64>(b, 8));
  hashHigh = (hashHigh + mixed(b, secret + 16)) ^ (load<u64>(a) + load<u64>(a, 8));
}

function hashMiddle(at: usize, length: usize): void {
  const end = at + length;
  hashLow = length * PRIME64_1;
  hashHigh = 0;
  if (length <= 128) {
    if (length > 96) mix(at + 48, end - 64, SECRET + 96);
    if (length > 64) mix(at + 32, end - 48, SECRET + 64);
    if (length > 32) mix(at + 16, end - 32, SECRET + 32);
    mix(at, end - 16, SECRET);
  } else {
    for (let i: usize = 0; i < 128; i += 32) mix(at + i, at + i + 16, SECRET + i);
    hashLow = avalanche(hashLow);
    hashHigh = avalanche(hashHigh);
    for (let i: usize = 128; i + 32 <= length; i += 32) mix(at + i, at + i + 16, SECRET + i - 125);
    mix(end - 16, end - 32, SECRET + 103);
  }
  const low = hashLow + hashHigh;
  const high = hashLow * PRIME64_1 + hashHigh * PRIME64_4 + length * PRIME64_2;
  hashLow = avalanche(low);
  hashHigh = 0 - avalanche(high);
}

/** Eight sums of 64 bits; blocks of 1 024 bytes, of stripes of 64. */
const SUMS: usize = memory.data(64, 16);

function hashLong(at: usize, length: usize): void {
  v128.store(SUMS, i64x2(PRIME32_3, PRIME64_1));
  v128.store(SUMS, i64x2(PRIME64_2, PRIME64_3), 16);
  v128.store(SUMS, i64x2(PRIME64_4, PRIME32_2), 32);
  v128.store(SUMS, i64x2(PRIME64_5, PRIME32_1), 48);
  const end = at + length;
  let from = at;
  for (; end - from > 1024; from += 1024) {
    addStripes(from, 16, SECRET);
    scramble();
  }
  addStripes(from, (end - from - 1) >> 6, SECRET);
  addStripes(end - 64, 1, SECRET + SECRET_BYTES - 71);
  hashLow = merged(SECRET + 11, length * PRIME64_1);
  hashHigh = merged(SECRET + SECRET_BYTES - 75, ~(length * PRIME64_2));
}

/** Lane by lane, not stripe by stripe: the sums of a lane then stay out of memory. */
function addStripes(at: usize, count: usize, secret: usize): void {
  for (let lane: usize = 0; lane < 64; lane += 16) {
    let sums = v128.load(SUMS + lane);
    for (let stripe: usize = 0; stripe < count; stripe += 1) {
      const data = v128.load(at + lane + (stripe << 6));
      const key = v128.xor(data, v128.load(secret + lane + (stripe << 3)));
      const low = i8x16.shuffle(key, key, 0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11);
      const high = i8x16.shuffle(key, key, 4, 5, 6, 7, 12, 13, 14, 15, 4, 5, 6, 7, 12, 13, 14, 15);
      const swapped = i8x16.shuffle(data, data, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
      sums = i64x2.add(i64x2.add(sums, swapped), i64x2.extmul_low_i32x4_u(low, high));
    }
    v128.store(SUMS + lane, sums);
  }
}

function scramble(): void {
  for (let i: usize = 0; i < 64; i += 16) {
    const sums = v128.load(SUMS + i);
    const key = v128.xor(v128.xor(sums, i64x2.shr_u(sums, 47)), v128.load(SECRET + SECRET_BYTES - 64 + i));
    v128.store(SUMS + i, i64x2.mul(key, i64x2.splat(PRIME32_1)));
  }
}

function merged(secret: usize, start: u64): u64 {
  let sum = start;
  for (let i: usize = 0; i < 64; i += 16) sum += mixed(SUMS + i, secret + i);
  return avalanche(sum);
}
