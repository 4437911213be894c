import {
  BACKSLASH,
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  FAILED,
  isSame,
  OPEN_ARRAY,
  OPEN_OBJECT,
  plainEnd,
  QUOTE,
  skipSpace,
  SPACE,
} from './bytes';

/**
 * Checks the grammar of a JSON object's text in one pass. It hands back (FAILED) whatever is not JSON, and whatever is not plain:
 * `\u` escapes, more than DEPTH_MAX levels, an object of more than MEMBERS_MAX members, a member given twice. Whether the text
 * is UTF-8 is the caller's to find out.
 */

const DEPTH_MAX: u32 = 16;
const MEMBERS_MAX: u32 = 32;

/** Where the names of the members of each open object stand, by level: start and length, u32 each. */
const NAMES: usize = memory.data(16 * 32 * 8, 16);

/** The object that begins at `start`; returns the position behind it. */
export function objectEnd(start: usize, level: u32): usize {
  if (level >= DEPTH_MAX) return FAILED;
  const names = NAMES + level * (MEMBERS_MAX * 8);
  let seen: u64 = 0;
  let at = start + 1;
  if (load<u8>(at) <= SPACE) at = skipSpace(at);
  if (load<u8>(at) === CLOSE_OBJECT) return at + 1;
  for (let member: u32 = 0; member < MEMBERS_MAX; member += 1) {
    if (load<u8>(at) !== QUOTE) return FAILED;
    const name = at + 1;
    at = plainEnd(name);
    // A name with an escape could be another's twin: not plain.
    if (load<u8>(at) !== QUOTE) return FAILED;
    const length = <u32>(at - name);
    // Names of different bits are different ones; only those of one bit are compared.
    const bit = (<u64>1) << ((length + load<u8>(name) + load<u8>(at - 1) * 5) & 63);
    if ((seen & bit) !== 0 && isTwin(names, member, name, length)) return FAILED;
    seen |= bit;
    store<u32>(names + member * 8, name);
    store<u32>(names + member * 8, length, 4);
    at += 1;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
    if (load<u8>(at) !== COLON) return FAILED;
    at += 1;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
    at = valueEnd(at, level + 1);
    if (at === FAILED) return FAILED;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
    const byte: u32 = load<u8>(at);
    at += 1;
    if (byte === CLOSE_OBJECT) return at;
    if (byte !== COMMA) return FAILED;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
  }
  return FAILED;
}

/** Whether one of the object's first members has this name. */
function isTwin(names: usize, members: u32, name: usize, length: u32): bool {
  for (let at = names; at < names + members * 8; at += 8) {
    if (load<u32>(at, 4) === length && isSame(load<u32>(at), name, length)) return true;
  }
  return false;
}

function arrayEnd(start: usize, level: u32): usize {
  if (level >= DEPTH_MAX) return FAILED;
  let at = start + 1;
  if (load<u8>(at) <= SPACE) at = skipSpace(at);
  if (load<u8>(at) === CLOSE_ARRAY) return at + 1;
  // Stands at the opening bracket, then at the comma in front of each value.
  at = start;
  do {
    at += 1;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
    at = valueEnd(at, level + 1);
    if (at === FAILED) return FAILED;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
  } while (load<u8>(at) === COMMA);
  return load<u8>(at) === CLOSE_ARRAY ? at + 1 : FAILED;
}

function valueEnd(at: usize, level: u32): usize {
  const byte: u32 = load<u8>(at);
  if (byte === QUOTE) return stringEnd(at);
  if (byte === OPEN_OBJECT) return objectEnd(at, level);
  if (byte === OPEN_ARRAY) return arrayEnd(at, level);
  const word = load<u32>(at);
  if (word === 0x65757274) return at + 4; // true
  if (word === 0x736c6166) return load<u8>(at, 4) === 0x65 ? at + 5 : FAILED; // false
  if (word === 0x6c6c756e) return at + 4; // null
  return numberEnd(at);
}

function stringEnd(start: usize): usize {
  let at = plainEnd(start + 1);
  while (load<u8>(at) === BACKSLASH) {
    if (!isEscape(load<u8>(at, 1))) return FAILED;
    at = plainEnd(at + 2);
  }
  return load<u8>(at) === QUOTE ? at + 1 : FAILED;
}

/** What may stand behind a backslash, `u` left out. */
function isEscape(byte: u32): bool {
  switch (byte) {
    case 0x22: // "
    case 0x2f: // /
    case 0x5c: // \
    case 0x62: // b
    case 0x66: // f
    case 0x6e: // n
    case 0x72: // r
    case 0x74: // t
      return true;
    default:
      return false;
  }
}

/** RFC 8259: [minus] int [frac] [exp]. */
function numberEnd(start: usize): usize {
  const whole = start + usize(load<u8>(start) === 0x2d);
  let at = digitsEnd(whole);
  if (at === whole || (load<u8>(whole) === 0x30 && at > whole + 1)) return FAILED;
  if (load<u8>(at) === 0x2e) {
    const fraction = at + 1;
    at = digitsEnd(fraction);
    if (at === fraction) return FAILED;
  }
  if ((load<u8>(at) | 0x20) === 0x65) {
    const sign: u32 = load<u8>(at, 1);
    const exponent = at + (sign === 0x2b || sign === 0x2d ? 2 : 1);
    at = digitsEnd(exponent);
    if (at === exponent) return FAILED;
  }
  return at;
}

function digitsEnd(start: usize): usize {
  let at = start;
  while (<u32>load<u8>(at) - 0x30 < 10) at += 1;
  return at;
}
