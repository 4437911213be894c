import { COMMA, FAILED, LINE_FEED, skipSpace, splitLines } from './bytes';
import { scanEvent, userEnd, userStart } from './event';
import {
  CHANNELS,
  CHANNELS_BYTES,
  CHUNK,
  CHUNK_BYTES,
  EVENTS_MAX,
  ID,
  ID_TEXT_BYTES,
  ID_TEXTS,
  MARK_BYTES,
  MARKS,
  METADATA_ROOM,
  ROW_ROOM,
  ROWS,
  SINGLE,
  SINGLE_BYTES,
  TAGS_ROOM,
} from './layout';
import { identify, writeRow } from './row';
import { uuidHigh, uuidLow, writeUuidText } from './uuid';

/**
 * The one-pass encoder: text in, rows and ids out, of plain valid events (event.ts). What it is called with and what it leaves
 * where: plain-events.ts, which is its only caller.
 */

export {
  CHANNELS,
  CHANNELS_BYTES,
  CHUNK,
  CHUNK_BYTES,
  EVENTS_MAX,
  ID,
  ID_TEXT_BYTES,
  ID_TEXTS,
  MARK_BYTES,
  MARKS,
  METADATA_ROOM,
  ROW_ROOM,
  ROWS,
  SINGLE,
  SINGLE_BYTES,
  TAGS_ROOM,
};

/** What a call takes: the moment of arrival, and between which timestamps, in Unix ms, it takes events. */
let arrivalUs: i64 = 0;
let earliestMs: f64 = 0;
let latestMs: f64 = 0;

/** Holds until it is set again. */
export function setTime(arrival: f64, earliest: f64, latest: f64): void {
  arrivalUs = <i64>arrival;
  earliestMs = earliest;
  latestMs = latest;
}

/** Whether the last batch ended at an event that was not taken, rather than at a bound or where no event is. */
export let isStuck: bool = false;

/** The event from `start` to `end`: leaves its row at `row`, id and first mark, and returns the row's length; 0 where it is not taken. */
export function encodeOne(start: usize, end: usize, row: usize): usize {
  v128.store(end, i64x2(0, 0));
  splitLines(false);
  const behind = scanEvent(skipSpace(start), earliestMs, latestMs);
  if (behind === FAILED || skipSpace(behind) !== end) return 0;
  identify();
  store<u64>(ID, bswap(uuidHigh));
  store<u64>(ID, bswap(uuidLow), 8);
  store<u32>(MARKS, userStart);
  store<u32>(MARKS, userEnd, 4);
  return writeRow(row, arrivalUs) - row;
}

/**
 * Encodes up to `most` events of the text from `start` to `end`, which begins with one. In `lines` each ends with its line;
 * otherwise commas stand between them. Returns how many; leaves their rows at `rows`, their marks, and ID_TEXTS where they are wanted.
 * `isWhole` tells that nothing follows behind `end`.
 */
export function encodeMany(
  start: usize,
  end: usize,
  rows: usize,
  most: u32,
  lines: bool,
  isWhole: bool,
  withIds: bool,
): u32 {
  v128.store(end, i64x2(0, 0));
  splitLines(lines);
  isStuck = false;
  const full = rows + CHUNK_BYTES;
  let at = start;
  let row = rows;
  let count: u32 = 0;
  while (count < most && row <= full) {
    const behind = scanEvent(at, earliestMs, latestMs);
    const next = behind === FAILED ? FAILED : skipSpace(behind);
    if (next === FAILED || (lines && load<u8>(next) !== LINE_FEED && !(isWhole && next === end))) {
      isStuck = true;
      break;
    }
    identify();
    row = writeRow(row, arrivalUs);
    if (withIds) writeUuidText(ID_TEXTS + count * ID_TEXT_BYTES, uuidHigh, uuidLow);
    mark(MARKS + count * MARK_BYTES, behind, row);
    count += 1;
    at = next;
    if (lines) {
      while (load<u8>(at) === LINE_FEED) at = skipSpace(at + 1);
      if (at === end) break;
    } else {
      if (load<u8>(at) !== COMMA) break;
      at = skipSpace(at + 1);
    }
  }
  return count;
}

function mark(at: usize, behind: usize, row: usize): void {
  store<u32>(at, userStart);
  store<u32>(at, userEnd, 4);
  store<u32>(at, behind, 8);
  store<u32>(at, row, 12);
}
