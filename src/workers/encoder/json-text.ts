/**
 * Walks over JSON text as bytes, without building values: where values end, what the members of an object are, and what
 * JSON.parse would hide (members given twice, lone surrogates). It does not check grammar, JSON.parse does: on text that is
 * not JSON the walk ends within its bounds, and what it found is not used.
 */

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const LETTER_U = 0x75;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Returned where a value does not end before the text does. */
export const UNENDED = -1;

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** The first position from `at` that is not white space, or `end`. */
export function skipSpace(text: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end && isSpace(text[i])) i += 1;
  return i;
}

/** The position behind the string whose opening quote is at `at`. */
export function skipString(text: Uint8Array, at: number, end: number): number {
  for (let i = at + 1; i < end; i += 1) {
    const byte = text[i];
    if (byte === QUOTE) return i + 1;
    if (byte === BACKSLASH) i += 1;
  }
  return UNENDED;
}

/** The position behind the value that starts at `at`. */
export function skipValue(text: Uint8Array, at: number, end: number): number {
  const first = text[at];
  if (first === QUOTE) return skipString(text, at, end);
  if (first !== OPEN_OBJECT && first !== OPEN_ARRAY) return skipScalar(text, at, end);
  let depth = 0;
  for (let i = at; i < end;) {
    const byte = text[i];
    if (byte === QUOTE) {
      i = skipString(text, i, end);
      if (i === UNENDED) return UNENDED;
      continue;
    }
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth += 1;
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      depth -= 1;
      if (depth === 0) return i + 1;
    }
    i += 1;
  }
  return UNENDED;
}

function skipScalar(text: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end) {
    const byte = text[i];
    if (byte === COMMA || byte === CLOSE_ARRAY || byte === CLOSE_OBJECT || isSpace(byte)) break;
    i += 1;
  }
  return i;
}

/** Copies text without white space outside strings; `out` has room for all of it. Returns where the copy ends. */
export function compact(text: Uint8Array, start: number, end: number, out: Uint8Array, outAt: number): number {
  let to = outAt;
  for (let i = start; i < end;) {
    const byte = text[i] ?? 0;
    if (byte === QUOTE) {
      const behind = skipString(text, i, end);
      const stop = behind === UNENDED ? end : behind;
      while (i < stop) out[to++] = text[i++] ?? 0;
      continue;
    }
    if (!isSpace(byte)) out[to++] = byte;
    i += 1;
  }
  return to;
}

/** What `survey` found out about an object's text. */
export interface Survey {
  /** Members of the object itself, one given twice counted twice. */
  members: number;
  /** Members of all objects inside it. */
  innerMembers: number;
  /** Text of the value of the last member called `metadata`; start is UNENDED where there is none. */
  metadataStart: number;
  metadataEnd: number;
  /** Where the value of the last member called `timestamp` starts; UNENDED where there is none. */
  timestampStart: number;
  /** Where an escape for half a surrogate pair stands; UNENDED where there is none. */
  loneSurrogateAt: number;
  /** Deepest nesting, 1 for an object of scalars. */
  depth: number;
}

export function emptySurvey(): Survey {
  return {
    members: 0,
    innerMembers: 0,
    metadataStart: UNENDED,
    timestampStart: UNENDED,
    metadataEnd: UNENDED,
    loneSurrogateAt: UNENDED,
    depth: 0,
  };
}

/** One walk over the text of an object, into `found`. */
export function survey(text: Buffer, start: number, end: number, found: Survey): void {
  Object.assign(found, emptySurvey());
  let depth = 0;
  let lastString = start;
  let inMetadata = false;
  for (let i = start; i < end;) {
    const byte = text[i];
    if (byte === QUOTE) {
      lastString = i;
      i = skipStringSeeking(text, i, end, found);
      continue;
    }
    if (byte === COLON) {
      if (depth === 1) {
        found.members += 1;
        inMetadata = isKey(text, lastString, i, METADATA);
        if (inMetadata) found.metadataStart = skipSpace(text, i + 1, end);
        else if (isKey(text, lastString, i, TIMESTAMP)) found.timestampStart = skipSpace(text, i + 1, end);
      } else {
        found.innerMembers += 1;
      }
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      depth += 1;
      if (depth > found.depth) found.depth = depth;
    } else if (byte === COMMA || byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      if (depth === 1 && inMetadata) {
        found.metadataEnd = trimEnd(text, found.metadataStart, i);
        inMetadata = false;
      }
      if (byte !== COMMA) depth -= 1;
    }
    i += 1;
  }
}

function trimEnd(text: Uint8Array, start: number, end: number): number {
  let i = end;
  while (i > start && isSpace(text[i - 1])) i -= 1;
  return i;
}

const METADATA = Buffer.from('"metadata"');
const TIMESTAMP = Buffer.from('"timestamp"');

/** Whether the name that starts at `start`, before the colon, is `key` (in quotes). */
function isKey(text: Buffer, start: number, colon: number, key: Buffer): boolean {
  const end = trimEnd(text, start, colon);
  if (end - start === key.length) return text.compare(key, 0, key.length, start, end) === 0;
  // A key may be spelled with escapes: then it is longer.
  if (end - start < key.length || !text.subarray(start, end).includes(BACKSLASH)) return false;
  return stringAt(text, start, end) === key.toString('utf8', 1, key.length - 1);
}

/** The value of the string token between `start` and `end`; undefined where it is none. */
export function stringAt(text: Buffer, start: number, end: number): string | undefined {
  try {
    const value: unknown = JSON.parse(text.toString('utf8', start, end));
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

/** `skipString`, looking out for lone surrogates on the way. Ends at `end` where the string does not. */
function skipStringSeeking(text: Buffer, at: number, end: number, found: Survey): number {
  for (let i = at + 1; i < end; i += 1) {
    const byte = text[i];
    if (byte === QUOTE) return i + 1;
    if (byte !== BACKSLASH) continue;
    i += 1;
    if (text[i] !== LETTER_U) continue;
    const unit = hexUnit(text, i + 1, end);
    if (unit < 0xd800 || unit > 0xdfff) continue;
    const low = text[i + 5] === BACKSLASH && text[i + 6] === LETTER_U ? hexUnit(text, i + 7, end) : -1;
    if (unit <= 0xdbff && low >= 0xdc00 && low <= 0xdfff) i += 10;
    else if (found.loneSurrogateAt === UNENDED) found.loneSurrogateAt = i - 1;
  }
  return end;
}

/** The value of four hexadecimal digits; -1 where they are none. */
function hexUnit(text: Buffer, at: number, end: number): number {
  if (at + 4 > end) return -1;
  const value = Number.parseInt(text.toString('latin1', at, at + 4), 16);
  return Number.isNaN(value) ? -1 : value;
}

/** All members of all objects in a parsed value; with `survey` this tells whether one was given twice. */
export function countMembers(value: object): number {
  let count = 0;
  const open: object[] = [value];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (Array.isArray(next)) {
      for (const item of next as unknown[]) if (typeof item === 'object' && item !== null) open.push(item);
      continue;
    }
    const members = next as Record<string, unknown>;
    // JSON.parse makes own members only, of objects without inherited enumerable ones: `for in` sees just them.
    for (const name in members) {
      count += 1;
      const inner = members[name];
      if (typeof inner === 'object' && inner !== null) open.push(inner);
    }
  }
  return count;
}

/** JSON pointer of the first member that is given twice in an object's valid JSON text. */
export function findDuplicate(text: Buffer, start: number, end: number): string | undefined {
  interface Level {
    /** Undefined for an array. */
    readonly keys: Set<string> | undefined;
    name: string | number;
  }
  const levels: Level[] = [];
  let expectsKey = false;
  for (let i = start; i < end;) {
    const byte = text[i];
    const level = levels.at(-1);
    if (byte === QUOTE) {
      const behind = skipString(text, i, end);
      if (behind === UNENDED) return undefined;
      if (expectsKey && level?.keys !== undefined) {
        const key = stringAt(text, i, behind) ?? '';
        level.name = key;
        if (level.keys.has(key)) return levels.map(({ name }) => `/${escapePointer(String(name))}`).join('');
        level.keys.add(key);
        expectsKey = false;
      }
      i = behind;
      continue;
    }
    if (byte === OPEN_OBJECT) levels.push({ keys: new Set(), name: '' });
    else if (byte === OPEN_ARRAY) levels.push({ keys: undefined, name: 0 });
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) levels.pop();
    else if (byte === COMMA && typeof level?.name === 'number') level.name += 1;
    if (byte === OPEN_OBJECT || byte === COMMA) expectsKey = true;
    i += 1;
  }
  return undefined;
}

/** RFC 6901. */
export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

/** Whether the number whose text starts at `at` is whole as it is written, not only as the nearest double: RFC 8259 grammar. */
export function isWhole(text: Buffer, at: number, end: number): boolean {
  const number = text.toString('latin1', at, skipScalar(text, at, end));
  const [, whole = '', fraction = '', exponent = '0'] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(number) ?? [];
  const digits = (whole + fraction).replace(/0+$/, '');
  // What stands behind the point when the exponent has moved it; nothing does in zero.
  return digits === '' || whole.length + Number(exponent) >= digits.length;
}
