/** UUIDs as two numbers, each eight of the bytes in the order of the text, big-endian. */

export let uuidHigh: u64 = 0;
export let uuidLow: u64 = 0;

const DASH: u8 = 0x2d;
const QUOTE: u8 = 0x22;
const COMMA: u8 = 0x2c;

export function setUuid(high: u64, low: u64): void {
  uuidHigh = high;
  uuidLow = low;
}

/** Reads the 36 characters at `at`; false where they are no UUID. */
export function parseUuid(at: usize): bool {
  if (load<u8>(at, 8) !== DASH || load<u8>(at, 13) !== DASH || load<u8>(at, 18) !== DASH || load<u8>(at, 23) !== DASH) {
    return false;
  }
  const middle = v128.load(at, 16);
  const first = i8x16.shuffle(v128.load(at), middle, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17);
  const second = i8x16.shuffle(middle, v128.load(at, 20), 3, 4, 5, 6, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
  if (!i8x16.all_true(v128.and(hexDigits(first), hexDigits(second)))) return false;
  const bytes = i8x16.narrow_i16x8_u(pairs(hexValues(first)), pairs(hexValues(second)));
  setUuid(bswap(i64x2.extract_lane(bytes, 0)), bswap(i64x2.extract_lane(bytes, 1)));
  return true;
}

/** All ones where a byte is a hexadecimal digit. */
function hexDigits(text: v128): v128 {
  return v128.or(
    i8x16.lt_u(i8x16.sub(text, i8x16.splat(0x30)), i8x16.splat(10)),
    i8x16.lt_u(i8x16.sub(v128.or(text, i8x16.splat(0x20)), i8x16.splat(0x61)), i8x16.splat(6)),
  );
}

/** The values of hexadecimal digits: letters have bit 6, and 1 to 6 in the lower half. */
function hexValues(digits: v128): v128 {
  const nine = v128.and(i8x16.gt_u(digits, i8x16.splat(0x39)), i8x16.splat(9));
  return i8x16.add(v128.and(digits, i8x16.splat(0x0f)), nine);
}

/** Two values that stand behind one another as one byte, in 16 bits. */
function pairs(values: v128): v128 {
  return v128.and(v128.or(i16x8.shl(values, 4), i16x8.shr_u(values, 8)), i16x8.splat(0xff));
}

/** Writes a UUID's text in quotes and a comma behind it, 39 bytes. */
export function writeUuidText(at: usize, high: u64, low: u64): void {
  const first = hexOf(high);
  const second = hexOf(low);
  store<u8>(at, QUOTE);
  store<u64>(at, i64x2.extract_lane(first, 0), 1);
  store<u8>(at, DASH, 9);
  store<u32>(at, i32x4.extract_lane(first, 2), 10);
  store<u8>(at, DASH, 14);
  store<u32>(at, i32x4.extract_lane(first, 3), 15);
  store<u8>(at, DASH, 19);
  store<u32>(at, i32x4.extract_lane(second, 0), 20);
  store<u8>(at, DASH, 24);
  store<u32>(at, i32x4.extract_lane(second, 1), 25);
  store<u64>(at, i64x2.extract_lane(second, 1), 29);
  store<u8>(at, QUOTE, 37);
  store<u8>(at, COMMA, 38);
}

/** The 16 digits of eight bytes, the highest first. */
function hexOf(value: u64): v128 {
  const bytes = i64x2.splat(value);
  const ordered = i8x16.shuffle(bytes, bytes, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  // The upper half of a byte in the even places, the lower in the odd ones.
  const halves = v128.bitselect(i16x8.shr_u(ordered, 4), ordered, i16x8.splat(0xff));
  return i8x16.swizzle(DIGITS(), v128.and(halves, i8x16.splat(0x0f)));
}

/** 0123456789abcdef */
function DIGITS(): v128 {
  return i64x2(0x3736353433323130, 0x6665646362613938);
}
