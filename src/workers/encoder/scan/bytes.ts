/**
 * Small steps over bytes, most of them sixteen at a time. Text ends with a zero byte that is not part of it: a zero is neither
 * white space nor part of any token, and ends a string as any control character does, so nothing here looks for an end.
 */

export const QUOTE: u32 = 0x22;
export const COMMA: u32 = 0x2c;
export const COLON: u32 = 0x3a;
export const BACKSLASH: u32 = 0x5c;
export const OPEN_ARRAY: u32 = 0x5b;
export const CLOSE_ARRAY: u32 = 0x5d;
export const OPEN_OBJECT: u32 = 0x7b;
export const CLOSE_OBJECT: u32 = 0x7d;
export const SPACE: u32 = 0x20;
export const LINE_FEED: u32 = 0x0a;

/** Instead of a position: the text is not what was looked for. */
export const FAILED: usize = 0;

/** Beyond this many bytes the call out of the module that `memory.copy` is pays. */
const LONG_COPY: usize = 1024;

/** White space was skipped since this was last false. */
export let spaceSkipped: bool = false;
/** In lines a line feed ends the event: it is not white space within it. */
let lineFeed: u32 = LINE_FEED;

export function watchForSpace(): void {
  spaceSkipped = false;
}

export function splitLines(splits: bool): void {
  lineFeed = splits ? SPACE : LINE_FEED;
}

/** The first position from `start` that is not white space. Worth its call only where a byte up to SPACE stands. */
export function skipSpace(start: usize): usize {
  let at = start;
  for (;;) {
    const byte: u32 = load<u8>(at);
    if (byte !== SPACE && byte !== lineFeed && byte !== 0x0d && byte !== 0x09) break;
    at += 1;
  }
  if (at !== start) spaceSkipped = true;
  return at;
}

/** The first position from `start` with a quote, a backslash or a control character. */
export function plainEnd(start: usize): usize {
  let at = start;
  let found = stringEnds(at);
  while (found === 0) {
    at += 16;
    found = stringEnds(at);
  }
  return at + ctz(found);
}

/** A bit for each of sixteen bytes that is a quote, a backslash or a control character. */
function stringEnds(at: usize): i32 {
  const bytes = v128.load(at);
  const ends = v128.or(i8x16.eq(bytes, i8x16.splat(0x22)), i8x16.eq(bytes, i8x16.splat(0x5c)));
  return i8x16.bitmask(v128.or(ends, i8x16.lt_u(bytes, i8x16.splat(0x20))));
}

/** Whether two texts of one length are the same. */
export function isSame(a: usize, b: usize, length: usize): bool {
  let at: usize = 0;
  for (; at + 8 <= length; at += 8) if (load<u64>(a + at) !== load<u64>(b + at)) return false;
  const rest = (length - at) << 3;
  return rest === 0 || ((load<u64>(a + at) ^ load<u64>(b + at)) & (((<u64>1) << rest) - 1)) === 0;
}

/** Copies to `to`, and perhaps some bytes too many; returns the position behind the copy. */
export function copy(to: usize, from: usize, length: usize): usize {
  if (length > LONG_COPY) {
    memory.copy(to, from, length);
  } else {
    for (let at: usize = 0; at < length; at += 16) v128.store(to + at, v128.load(from + at));
  }
  return to + length;
}

/** Copies JSON text without white space outside strings; returns the position behind the copy. */
export function compact(to: usize, start: usize, end: usize): usize {
  let out = to;
  let from = start;
  let at = start;
  while (at < end) {
    const byte: u32 = load<u8>(at);
    if (byte === QUOTE) {
      at = plainEnd(at + 1);
      while (load<u8>(at) === BACKSLASH) at = plainEnd(at + 2);
      at += 1;
    } else if (byte > SPACE) {
      at += 1;
    } else {
      out = copy(out, from, at - from);
      from = skipSpace(at);
      at = from;
    }
  }
  return copy(out, from, end - from);
}

/** Whether text whose last byte is ASCII is UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF). */
export function isUtf8(start: usize, end: usize): bool {
  let at = start;
  while (at < end) {
    const beyondAscii = i8x16.bitmask(v128.load(at));
    if (beyondAscii === 0) {
      at += 16;
      continue;
    }
    at += ctz(beyondAscii);
    // What was found may stand behind the text; a character that begins within it ends there too, before the last byte.
    if (at >= end) break;
    at = characterEnd(at);
    if (at === FAILED) return false;
  }
  return true;
}

/** The position behind the character of two to four bytes that begins at `at`. */
function characterEnd(at: usize): usize {
  const first: u32 = load<u8>(at);
  const second: u32 = load<u8>(at + 1);
  if (first < 0xc2 || first > 0xf4 || (second & 0xc0) !== 0x80) return FAILED;
  if (first < 0xe0) return at + 2;
  if ((load<u8>(at + 2) & 0xc0) !== 0x80) return FAILED;
  if (first < 0xf0) return (first === 0xe0 && second < 0xa0) || (first === 0xed && second > 0x9f) ? FAILED : at + 3;
  if ((load<u8>(at + 3) & 0xc0) !== 0x80) return FAILED;
  return (first === 0xf0 && second < 0x90) || (first === 0xf4 && second > 0x8f) ? FAILED : at + 4;
}
