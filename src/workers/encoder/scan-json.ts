import type { Bytes } from '../../shared/rowbinary.js';
import { skipSpace } from './json-text.js';

/**
 * Checks the grammar of a JSON object's text in one pass over the bytes. It hands back (SCAN_FAILED) whatever is not JSON, and
 * whatever is not plain: `\u` escapes, more than DEPTH_MAX levels, an object of more than MEMBERS_MAX members, a member given
 * twice. It never looks beyond `end`.
 */

export const SCAN_FAILED = -1;

/** What the pass over an object found. */
export interface ObjectScan {
  /** There is white space outside strings. */
  hasSpace: boolean;
  /** There is a byte beyond ASCII; whether it is UTF-8 is the caller's to find out. */
  nonAscii: boolean;
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const MINUS = 0x2d;
const PLUS = 0x2b;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const DEPTH_MAX = 16;
const MEMBERS_MAX = 32;

/** What may stand behind a backslash, `u` left out. */
const ESCAPES = Uint8Array.from({ length: 256 }, (_, byte) =>
  '"\\/bfnrt'.includes(String.fromCharCode(byte)) ? 1 : 0,
);
const LITERALS = [Buffer.from('true'), Buffer.from('false'), Buffer.from('null')] as const;

/** Where the names of the members of each open object stand in the text, by level. */
const names = Array.from({ length: DEPTH_MAX }, () => new Int32Array(2 * MEMBERS_MAX));

/** The object that begins at `at`; returns the position behind it. */
export function scanObject(text: Bytes, at: number, end: number, scan: ObjectScan): number {
  scan.hasSpace = false;
  scan.nonAscii = false;
  if (text.buffer[at] !== OPEN_OBJECT) return SCAN_FAILED;
  return objectAt(text, at, end, scan, 0);
}

function objectAt(text: Bytes, start: number, end: number, scan: ObjectScan, level: number): number {
  const { buffer } = text;
  const seen = names[level];
  if (seen === undefined) return SCAN_FAILED;
  let at = nextAt(buffer, start + 1, end, scan);
  if (at < end && buffer[at] === CLOSE_OBJECT) return at + 1;
  for (let members = 0; members < MEMBERS_MAX; members += 1) {
    if (at >= end || buffer[at] !== QUOTE) return SCAN_FAILED;
    const nameEnd = plainEnd(text, at + 1, end, scan);
    // A name with an escape could be another's twin: not plain.
    if (nameEnd >= end || buffer[nameEnd] !== QUOTE || !isNew(buffer, seen, members, at, nameEnd)) return SCAN_FAILED;
    at = nextAt(buffer, nameEnd + 1, end, scan);
    if (at >= end || buffer[at] !== COLON) return SCAN_FAILED;
    at = valueAt(text, nextAt(buffer, at + 1, end, scan), end, scan, level + 1);
    if (at === SCAN_FAILED) return SCAN_FAILED;
    at = nextAt(buffer, at, end, scan);
    if (at >= end) return SCAN_FAILED;
    const byte = buffer[at] ?? 0;
    if (byte === CLOSE_OBJECT) return at + 1;
    if (byte !== COMMA) return SCAN_FAILED;
    at = nextAt(buffer, at + 1, end, scan);
  }
  return SCAN_FAILED;
}

/** Notes a member's name; false where it was there before. */
function isNew(text: Uint8Array, seen: Int32Array, members: number, from: number, to: number): boolean {
  for (let member = 0; member < members; member += 1) {
    const otherFrom = seen[2 * member] ?? 0;
    if ((seen[2 * member + 1] ?? 0) - otherFrom === to - from && isSame(text, otherFrom, from, to - from)) return false;
  }
  seen[2 * members] = from;
  seen[2 * members + 1] = to;
  return true;
}

function isSame(bytes: Uint8Array, a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i += 1) if (bytes[a + i] !== bytes[b + i]) return false;
  return true;
}

function arrayAt(text: Bytes, start: number, end: number, scan: ObjectScan, level: number): number {
  const { buffer } = text;
  if (level >= DEPTH_MAX) return SCAN_FAILED;
  let at = nextAt(buffer, start + 1, end, scan);
  if (at < end && buffer[at] === CLOSE_ARRAY) return at + 1;
  for (;;) {
    at = valueAt(text, at, end, scan, level + 1);
    if (at === SCAN_FAILED) return SCAN_FAILED;
    at = nextAt(buffer, at, end, scan);
    if (at >= end) return SCAN_FAILED;
    const byte = buffer[at] ?? 0;
    if (byte === CLOSE_ARRAY) return at + 1;
    if (byte !== COMMA) return SCAN_FAILED;
    at = nextAt(buffer, at + 1, end, scan);
  }
}

function valueAt(text: Bytes, at: number, end: number, scan: ObjectScan, level: number): number {
  const { buffer } = text;
  if (at >= end) return SCAN_FAILED;
  switch (buffer[at]) {
    case QUOTE:
      return stringAt(text, at, end, scan);
    case OPEN_OBJECT:
      return objectAt(text, at, end, scan, level);
    case OPEN_ARRAY:
      return arrayAt(text, at, end, scan, level);
    case 0x74: // true
      return literalAt(buffer, at, end, LITERALS[0]);
    case 0x66: // false
      return literalAt(buffer, at, end, LITERALS[1]);
    case 0x6e: // null
      return literalAt(buffer, at, end, LITERALS[2]);
    default:
      return numberAt(buffer, at, end);
  }
}

/** The first position from `at` that is not white space. */
function nextAt(text: Uint8Array, at: number, end: number, scan: ObjectScan): number {
  // Whatever is above a space begins a token, or is refused by who looks at it next.
  if ((text[at] ?? 0) > 0x20) return at;
  const behind = skipSpace(text, at, end);
  if (behind !== at) scan.hasSpace = true;
  return behind;
}

function literalAt(text: Uint8Array, at: number, end: number, literal: Uint8Array): number {
  if (at + literal.length > end) return SCAN_FAILED;
  for (let i = 0; i < literal.length; i += 1) if (text[at + i] !== literal[i]) return SCAN_FAILED;
  return at + literal.length;
}

/** The string whose opening quote is at `start`; returns the position behind it. */
function stringAt(text: Bytes, start: number, end: number, scan: ObjectScan): number {
  const { buffer } = text;
  if (start >= end || buffer[start] !== QUOTE) return SCAN_FAILED;
  for (let at = start + 1; ; at += 2) {
    at = plainEnd(text, at, end, scan);
    if (at >= end) return SCAN_FAILED;
    const byte = buffer[at];
    if (byte === QUOTE) return at + 1;
    if (byte !== BACKSLASH || at + 1 >= end || ESCAPES[buffer[at + 1] ?? 0] !== 1) return SCAN_FAILED;
  }
}

const EVERY = 0x01010101;
const EVERY_HIGH_BIT = EVERY * 0x80;

/**
 * The first position from `at` with a quote, a backslash or a control character; `end` where there is none. Four bytes at a
 * time: `(x - EVERY) & ~x` sets the high bit of each byte of x that is 0, and perhaps of some above the lowest such; see
 * https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord, and there "less than n" for control characters.
 */
export function plainEnd({ buffer, view }: Bytes, start: number, end: number, scan: { nonAscii: boolean }): number {
  let at = start;
  let bits = 0;
  let found = 0;
  for (; at + 4 <= end; at += 4) {
    const word = view.getInt32(at, true);
    // With bytes behind the end of a string: to say "not ASCII" once too often does no harm.
    bits |= word;
    const quotes = word ^ (EVERY * QUOTE);
    const backslashes = word ^ (EVERY * BACKSLASH);
    found =
      (((quotes - EVERY) & ~quotes) | ((backslashes - EVERY) & ~backslashes) | ((word - EVERY * 0x20) & ~word)) &
      EVERY_HIGH_BIT;
    if (found !== 0) break;
  }
  if ((bits & EVERY_HIGH_BIT) !== 0) scan.nonAscii = true;
  if (found !== 0) return at + ((31 - Math.clz32(found & -found)) >> 3);
  for (; at < end; at += 1) {
    const byte = buffer[at] ?? 0;
    if (byte === QUOTE || byte === BACKSLASH || byte < 0x20) return at;
    if (byte >= 0x80) scan.nonAscii = true;
  }
  return end;
}

/** RFC 8259: [minus] int [frac] [exp]. */
function numberAt(text: Uint8Array, start: number, end: number): number {
  let at = start;
  if (at < end && text[at] === MINUS) at += 1;
  const whole = digitsAt(text, at, end);
  if (whole === at || (text[at] === ZERO && whole > at + 1)) return SCAN_FAILED;
  at = whole;
  if (at < end && text[at] === POINT) {
    const fraction = digitsAt(text, at + 1, end);
    if (fraction === at + 1) return SCAN_FAILED;
    at = fraction;
  }
  if (at < end && (text[at] === 0x65 || text[at] === 0x45)) {
    at += 1;
    if (at < end && (text[at] === PLUS || text[at] === MINUS)) at += 1;
    const exponent = digitsAt(text, at, end);
    if (exponent === at) return SCAN_FAILED;
    at = exponent;
  }
  return at;
}

function digitsAt(text: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end) {
    const byte = text[at] ?? 0;
    if (byte < ZERO || byte > NINE) break;
    at += 1;
  }
  return at;
}
