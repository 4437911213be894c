import {
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  compact,
  FAILED,
  isSame,
  isUtf8,
  OPEN_ARRAY,
  OPEN_OBJECT,
  plainEnd,
  QUOTE,
  skipSpace,
  SPACE,
  spaceSkipped,
  watchForSpace,
} from './bytes';
import { objectEnd } from './json';
import {
  campaignIdMaxBytes,
  CHANNELS,
  COMPACTED,
  eventNameMaxBytes,
  metadataMaxBytes,
  millisecondsFrom,
  tagMaxBytes,
  TAGS,
  tagsMax,
  userIdMaxBytes,
} from './layout';
import { parseUuid } from './uuid';

/**
 * Takes an event apart straight from the bytes of its text, once, without building a value. It knows plain events only: known
 * members without escapes in names or values, a whole number of digits for a timestamp, metadata of moderate shape. Anything else
 * it hands back (FAILED), valid or not, to JSON.parse and the schema (validate.ts), which stay the definition of what is valid
 * and the source of every message. So it may refuse to decide as often as it likes, and must never accept what they would refuse,
 * nor read a field differently; differential tests hold it to that.
 */

const EVENT_NAME: u32 = 1;
const CHANNEL: u32 = 2;
const USER_ID: u32 = 4;
const TIMESTAMP: u32 = 8;
const CAMPAIGN_ID: u32 = 16;
const TAGS_MEMBER: u32 = 32;
const METADATA: u32 = 64;
const EVENT_ID: u32 = 128;
const REQUIRED: u32 = EVENT_NAME | CHANNEL | USER_ID | TIMESTAMP;

/** 2^53 has 16 digits: so many are always exact. */
const DIGITS_MAX: usize = 15;
const UUID_CHARS: usize = 36;

/** The event that was scanned last: where its fields stand, empty where it does not have them. */
export let nameStart: usize = 0;
export let nameEnd: usize = 0;
export let channelStart: usize = 0;
export let channelEnd: usize = 0;
export let userStart: usize = 0;
export let userEnd: usize = 0;
export let campaignStart: usize = 0;
export let campaignEnd: usize = 0;
export let timestampMs: i64 = 0;
/** Of those in TAGS. */
export let tagCount: u32 = 0;
/** Without white space outside strings: in the text, or in COMPACTED. */
export let metadataStart: usize = 0;
export let metadataEnd: usize = 0;
export let hasEventId: bool = false;

/** Its members so far. */
let seen: u32 = 0;

/** The event that begins at `start`: the position behind it. */
export function scanEvent(start: usize, earliestMs: f64, latestMs: f64): usize {
  if (load<u8>(start) !== OPEN_OBJECT) return FAILED;
  seen = 0;
  campaignStart = 0;
  campaignEnd = 0;
  tagCount = 0;
  metadataStart = 0;
  metadataEnd = 0;
  hasEventId = false;
  // Stands at the opening brace, then at the comma in front of each member.
  let at = start;
  do {
    at += 1;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
    at = memberEnd(at);
    if (at === FAILED) return FAILED;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
  } while (load<u8>(at) === COMMA);
  if (load<u8>(at) !== CLOSE_OBJECT) return FAILED;
  at += 1;
  const time = <f64>timestampMs;
  return (seen & REQUIRED) === REQUIRED && time >= earliestMs && time <= latestMs && isUtf8(start, at) ? at : FAILED;
}

/** One member, from its name's quote. */
function memberEnd(start: usize): usize {
  const length = nameLength(start);
  if (length === 0) return FAILED;
  if ((seen & member) !== 0) return FAILED;
  seen |= member;
  // Behind the name's quote.
  let at = start + length + 2;
  if (load<u8>(at) !== COLON) {
    at = skipSpace(at);
    if (load<u8>(at) !== COLON) return FAILED;
  }
  at += 1;
  if (load<u8>(at) <= SPACE) at = skipSpace(at);
  return memberValueEnd(at);
}

/** The member whose name was found last. */
let member: u32 = 0;

/** Length of the name whose opening quote is at `start`, 0 for a name that no member has; `member` says which one it is. */
function nameLength(start: usize): usize {
  if (load<u8>(start) !== QUOTE) return 0;
  const head = load<u64>(start, 1);
  // The first eight bytes, and what follows with the closing quote: no name is then the beginning of another.
  if (head === 0x616e5f746e657665) return isMember(EVENT_NAME, load<u32>(start, 8) === 0x22656d61, 10); // event_na a me"
  if (head === 0x226c656e6e616863) return isMember(CHANNEL, true, 7); // channel"
  if (head === 0x2264695f72657375) return isMember(USER_ID, true, 7); // user_id"
  if (head === 0x6d617473656d6974) return isMember(TIMESTAMP, load<u16>(start, 9) === 0x2270, 9); // timestam p"
  if (head === 0x6e676961706d6163) return isMember(CAMPAIGN_ID, load<u32>(start, 9) === 0x2264695f, 11); // campaign _id"
  if (head === 0x617461646174656d) return isMember(METADATA, load<u8>(start, 9) === QUOTE, 8); // metadata "
  if (head === 0x64695f746e657665) return isMember(EVENT_ID, load<u8>(start, 9) === QUOTE, 8); // event_id "
  return isMember(TAGS_MEMBER, (head & 0xffffffffff) === 0x2273676174, 4); // tags"
}

function isMember(bit: u32, isIt: bool, length: usize): usize {
  member = bit;
  return isIt ? length : 0;
}

function memberValueEnd(at: usize): usize {
  switch (member) {
    case EVENT_NAME:
      return eventNameEnd(at);
    case CHANNEL:
      return channelValueEnd(at);
    case USER_ID: {
      const end = stringEnd(at, 1, userIdMaxBytes);
      userStart = at + 1;
      userEnd = end - 1;
      return end;
    }
    case TIMESTAMP:
      return timestampEnd(at);
    case EVENT_ID:
      return eventIdEnd(at);
    default:
      return load<u32>(at) === 0x6c6c756e ? at + 4 : optionalEnd(at); // null
  }
}

function optionalEnd(at: usize): usize {
  if (member === TAGS_MEMBER) return tagsEnd(at);
  if (member === METADATA) return metadataValueEnd(at);
  const end = stringEnd(at, 0, campaignIdMaxBytes);
  campaignStart = at + 1;
  campaignEnd = end - 1;
  return end;
}

/** A string without escapes, of `min` to `max` bytes: the position behind its closing quote. */
function stringEnd(start: usize, min: usize, max: usize): usize {
  if (load<u8>(start) !== QUOTE) return FAILED;
  const at = plainEnd(start + 1);
  const length = at - start - 1;
  return load<u8>(at) !== QUOTE || length < min || length > max ? FAILED : at + 1;
}

function eventNameEnd(start: usize): usize {
  const end = stringEnd(start, 1, eventNameMaxBytes);
  if (end === FAILED || (end === start + 3 && load<u8>(start, 1) === 0x2a)) return FAILED; // *
  nameStart = start + 1;
  nameEnd = end - 1;
  return end;
}

function channelValueEnd(start: usize): usize {
  const end = stringEnd(start, 1, tagMaxBytes);
  if (end === FAILED) return FAILED;
  channelStart = start + 1;
  channelEnd = end - 1;
  const length = <u32>(channelEnd - channelStart);
  let at = CHANNELS;
  let other = load<u32>(at);
  while (other !== 0) {
    if (other === length && isSame(at + 4, channelStart, length)) return end;
    at += 4 + other;
    other = load<u32>(at);
  }
  return FAILED;
}

function timestampEnd(start: usize): usize {
  let value: i64 = 0;
  let at = start;
  let digit = <u32>load<u8>(at) - 0x30;
  while (digit < 10) {
    value = value * 10 + digit;
    at += 1;
    digit = <u32>load<u8>(at) - 0x30;
  }
  // A zero in front is no JSON, a zero alone no timestamp; a fraction or exponent ends the digits and is not plain.
  if (at === start || at - start > DIGITS_MAX || load<u8>(start) === 0x30) return FAILED;
  timestampMs = <f64>value >= millisecondsFrom ? value : value * 1000;
  return at;
}

function tagsEnd(start: usize): usize {
  if (load<u8>(start) !== OPEN_ARRAY) return FAILED;
  let at = start + 1;
  if (load<u8>(at) <= SPACE) at = skipSpace(at);
  if (load<u8>(at) === CLOSE_ARRAY) return at + 1;
  let count: u32 = 0;
  // Stands at the opening bracket, then at the comma in front of each tag.
  at = start;
  do {
    at += 1;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
    const end = count < tagsMax ? stringEnd(at, 1, tagMaxBytes) : FAILED;
    if (end === FAILED) return FAILED;
    store<u32>(TAGS + count * 8, at + 1);
    store<u32>(TAGS + count * 8, end - 1, 4);
    count += 1;
    at = end;
    if (load<u8>(at) <= SPACE) at = skipSpace(at);
  } while (load<u8>(at) === COMMA);
  tagCount = count;
  return load<u8>(at) === CLOSE_ARRAY ? at + 1 : FAILED;
}

function metadataValueEnd(start: usize): usize {
  if (load<u8>(start) !== OPEN_OBJECT) return FAILED;
  watchForSpace();
  const end = objectEnd(start, 0);
  if (end === FAILED || end - start > metadataMaxBytes) return FAILED;
  metadataStart = start;
  metadataEnd = end;
  if (spaceSkipped) {
    metadataStart = COMPACTED;
    metadataEnd = compact(COMPACTED, start, end);
  }
  return end;
}

function eventIdEnd(start: usize): usize {
  if (load<u8>(start) !== QUOTE || load<u8>(start + 1 + UUID_CHARS) !== QUOTE || !parseUuid(start + 1)) return FAILED;
  hasEventId = true;
  return start + UUID_CHARS + 2;
}
