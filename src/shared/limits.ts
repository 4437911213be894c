import { capacityFor } from './ring.js';

/** Every bound that is not an option, with its reason; what must hold between them is asserted below. Imported by every thread: no schema here. */

/** Bounds of one event, in bytes of UTF-8 (api.md). */
export const EVENT_LIMITS = {
  eventNameMaxBytes: 128,
  userIdMaxBytes: 256,
  campaignIdMaxBytes: 256,
  tagsMax: 64,
  tagMaxBytes: 128,
  /** As sent, white space included. */
  metadataMaxBytes: 16 * 1024,
} as const;

/** Bodies on their way to one encoder. Four of the largest inline ones, and small enough to stay near the cache. */
export const INPUT_RING_BYTES = 4 * 1024 * 1024;
/** A body above this goes through the encoder's large-body slot: it must leave room in the ring for what comes behind it. */
export const INLINE_BODY_MAX_BYTES = 1024 * 1024;
/** Of bulk bodies in the ring at once, beyond one: the rest of it is for single events, which go ahead of them. */
export const BULK_BODIES_MAX_BYTES = 2 * 1024 * 1024;
/** Head of a request record and the longest `Idempotency-Key` that is looked at. */
const REQUEST_HEAD_MAX_BYTES = 512;

/**
 * What V8 may take for short-lived objects, MiB: of an encoder, and of a thread that makes few. By itself it takes three times
 * as much before it collects any. Several times these cost 22 MiB more at 60 000 events/s, and saved no CPU. Main's is set by bin/penstock.
 */
export const ENCODER_YOUNG_MIB = 4;
export const THREAD_YOUNG_MIB = 2;
/**
 * Of the thread that answers questions: one of a month by hours makes 2–3 MB of objects, and a collection in the middle of it copies most of
 * them. With 4 MiB such a question took 13.7 ms (median), with 12 8.7, with 24 5.8.
 */
export const CELLS_YOUNG_MIB = 24;

/** Encoded rows on their way to the log thread. */
export const ROWS_RING_BYTES = 2 * 1024 * 1024;
/** Rows travel in records of about this size: one system call's worth, and small enough to come by often. */
export const ROWS_RECORD_BYTES = 256 * 1024;
/** No row is longer: every field at its bound, with its length prefixes and the fixed columns. */
export const ROW_MAX_BYTES =
  EVENT_LIMITS.metadataMaxBytes +
  EVENT_LIMITS.tagsMax * (EVENT_LIMITS.tagMaxBytes + 2) +
  EVENT_LIMITS.eventNameMaxBytes +
  EVENT_LIMITS.userIdMaxBytes +
  EVENT_LIMITS.campaignIdMaxBytes +
  1024;

/** One commit: what one `fdatasync` covers at the most, so that a 202 never waits for more than this to be written. */
export const GROUP_MAX_BYTES = 8 * 1024 * 1024;
/** One segment is one INSERT is one block in ClickHouse's memory (findings: 500 000 rows take 234 MB there). */
export const SEGMENT_MAX_BYTES = 64 * 1024 * 1024;
export const SEGMENT_MAX_ROWS = 500_000;
/** Segments that may wait at once: the table of their ages is this long. */
export const SEGMENTS_MAX = 1 << 16;

/**
 * Largest body that can be configured: its rows, never more bytes than the body itself (the names of the members that every
 * event has outweigh what a row adds), must go into one segment with one commit, so that a 503 has taken nothing of it.
 */
export const BODY_MAX_BYTES = 48 * 1024 * 1024;
/** Bulk bodies of one encoder whose rows are on their way at once: one is read while the other is synced. */
export const STAGES = 2;

/** Memory for the rows of one bulk body. */
export function stageBytes(bodyMaxBytes: number): number {
  return bodyMaxBytes + ROW_MAX_BYTES;
}

/** Of one bulk answer. */
export const BULK_ERRORS_MAX = 100;
/** An error message quotes what was sent up to this many characters. */
export const QUOTE_MAX_CHARS = 64;
/** Details of one event's error. */
export const DETAILS_MAX = 8;
/** Errors of one event, as JSON: DETAILS_MAX details that each quote a bounded name. */
const EVENT_ERROR_MAX_BYTES = 16 * 1024;

/** Answers on their way to main: the largest bulk answer of `bulkMaxEvents` ids fits wherever it stands. */
export function resultRingBytes(bulkMaxEvents: number): number {
  return Math.max(1024 * 1024, capacityFor(bulkMaxEvents * 40 + BULK_ERRORS_MAX * EVENT_ERROR_MAX_BYTES + 4096));
}

function assertLimit(holds: boolean, what: string): void {
  if (!holds) throw new Error(`limits: ${what}`);
}

assertLimit(
  INLINE_BODY_MAX_BYTES + REQUEST_HEAD_MAX_BYTES <= INPUT_RING_BYTES / 2 - 8,
  'an inline body must pass the input ring',
);
assertLimit(ROW_MAX_BYTES + 64 <= ROWS_RECORD_BYTES, 'a row must fit into a record of rows');
assertLimit(ROWS_RECORD_BYTES <= ROWS_RING_BYTES / 4, 'a record of rows must not fill the ring');
assertLimit(GROUP_MAX_BYTES + 4096 <= SEGMENT_MAX_BYTES, 'a group must fit into an empty segment');
assertLimit(ROWS_RING_BYTES <= GROUP_MAX_BYTES, 'a ring full of rows must fit into a group');
assertLimit(stageBytes(BODY_MAX_BYTES) + 4096 <= SEGMENT_MAX_BYTES, 'a bulk body must fit into an empty segment');
assertLimit(
  BULK_BODIES_MAX_BYTES + INLINE_BODY_MAX_BYTES <= INPUT_RING_BYTES,
  'bulk bodies must leave room for single events',
);
