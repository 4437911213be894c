import { copy } from './bytes';
import {
  campaignEnd,
  campaignStart,
  channelEnd,
  channelStart,
  hasEventId,
  metadataEnd,
  metadataStart,
  nameEnd,
  nameStart,
  tagCount,
  timestampMs,
  userEnd,
  userStart,
} from './event';
import { FORM, TAGS } from './layout';
import { setUuid, uuidHigh, uuidLow } from './uuid';
import { hash, hashHigh, hashLow } from './xxh3';

/** The event that was scanned last: its id, and its row of `events`. */

/** Of the canonical form (event-id.ts). */
const VERSION: u8 = 1;

/** Leaves the event's id in `uuidHigh` and `uuidLow`: its own, or what event-id.ts derives. */
export function identify(): void {
  if (hasEventId) return;
  store<u8>(FORM, VERSION);
  let to = longText(FORM + 1, nameStart, nameEnd);
  to = longText(to, channelStart, channelEnd);
  to = longText(to, userStart, userEnd);
  to = longText(to, campaignStart, campaignEnd);
  store<i64>(to, timestampMs);
  store<u32>(to, tagCount, 8);
  to += 12;
  for (let tag = TAGS; tag < TAGS + tagCount * 8; tag += 8) to = longText(to, load<u32>(tag), load<u32>(tag, 4));
  to = longText(to, metadataStart, metadataEnd);
  hash(FORM, to - FORM);
  // Version 8, and the variant of RFC 9562.
  setUuid((hashHigh & ~0xf000) | 0x8000, (hashLow & 0x3fffffffffffffff) | 0x8000000000000000);
}

/** Length as u32, then the bytes. */
function longText(to: usize, start: usize, end: usize): usize {
  store<u32>(to, end - start);
  return copy(to + 4, start, end - start);
}

/** Columns in the order of encode-event.ts; returns the position behind the row. */
export function writeRow(at: usize, arrivalUs: i64): usize {
  // ClickHouse keeps a UUID as two little-endian halves.
  store<u64>(at, uuidHigh);
  store<u64>(at, uuidLow, 8);
  let to = text(at + 16, nameStart, nameEnd);
  to = text(to, channelStart, channelEnd);
  to = text(to, userStart, userEnd);
  store<i64>(to, timestampMs);
  to = text(to + 8, campaignStart, campaignEnd);
  to = varint(to, tagCount);
  for (let tag = TAGS; tag < TAGS + tagCount * 8; tag += 8) to = text(to, load<u32>(tag), load<u32>(tag, 4));
  to = text(to, metadataStart, metadataEnd);
  store<i64>(to, arrivalUs);
  return to + 8;
}

/** RowBinary's String. */
function text(to: usize, start: usize, end: usize): usize {
  return copy(varint(to, <u32>(end - start)), start, end - start);
}

/** Unsigned LEB128. */
function varint(start: usize, value: u32): usize {
  let to = start;
  let rest = value;
  while (rest >= 0x80) {
    store<u8>(to, rest | 0x80);
    to += 1;
    rest >>= 7;
  }
  store<u8>(to, rest);
  return to + 1;
}
