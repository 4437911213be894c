import type { MessagePort } from 'node:worker_threads';
import { createDoorbell } from './doorbell.js';
import { INPUT_RING_BYTES, ROWS_RING_BYTES, resultRingBytes, SEGMENTS_MAX, STAGES, stageBytes } from './limits.js';
import { createRing } from './ring.js';

/**
 * Everything that crosses a thread, named once: the memory of an encoder's channel, the memory that the flusher's two
 * threads share with main, the layout of the records in the rings, and the few messages that are not worth a ring.
 */

/** Int32 slots of one (encoder, generation). The writer of each stands behind it. */
export const CHANNEL_SLOT = {
  /** Rows of this channel that are synced, modulo 2^32. Log thread. */
  durableRows: 0,
  /** Request number that the encoder is at work on, or NO_REQUEST. Encoder. */
  currentRequest: 1,
  /** 1 while the large-body slot holds a body. Main sets, encoder clears. */
  largeBodyTaken: 2,
  /** 1 when the log thread has taken everything that a dead encoder had published. Log thread. */
  closed: 3,
  /** Counts failed groups. Log thread, which then waits for failureSeen to be the same. */
  failures: 4,
  /** Rows (failedFrom, failedThrough] of the last failure are not durable and never will be. Log thread. */
  failedFrom: 5,
  failedThrough: 6,
  /** Index into FAILURE_CODES. Log thread. */
  failureCode: 7,
  /** Failures that main has answered. Main. */
  failureSeen: 8,
  /** 1 when the encoder is to finish what it has and return. Main. */
  stop: 9,
} as const;
const CHANNEL_SLOTS = 16;

export const NO_REQUEST = -1;

/** Why the log could not take rows, in the words of errors.ts. */
export const FAILURE_CODES = ['log_failed', 'disk_full'] as const;

/** The memory of one encoder generation; plain shared buffers, so that it can be posted. */
export interface ChannelMemory {
  readonly slots: SharedArrayBuffer;
  /** Main → encoder: requests. */
  readonly input: SharedArrayBuffer;
  /** Main → encoder: one body that is too large for the ring. */
  readonly largeBody: SharedArrayBuffer;
  /** Encoder → main: answers. */
  readonly results: SharedArrayBuffer;
  /** Encoder → log: encoded rows. */
  readonly rows: SharedArrayBuffer;
  /** Encoder → log: the rows of one bulk body each, that a record in the rows ring points to. */
  readonly stages: readonly SharedArrayBuffer[];
  readonly encoderBell: SharedArrayBuffer;
}

export function createChannel(bodyMaxBytes: number, bulkMaxEvents: number): ChannelMemory {
  const slots = new SharedArrayBuffer(CHANNEL_SLOTS * 4);
  new Int32Array(slots)[CHANNEL_SLOT.currentRequest] = NO_REQUEST;
  return {
    slots,
    input: createRing(INPUT_RING_BYTES),
    largeBody: new SharedArrayBuffer(bodyMaxBytes),
    results: createRing(resultRingBytes(bulkMaxEvents)),
    rows: createRing(ROWS_RING_BYTES),
    stages: Array.from({ length: STAGES }, () => new SharedArrayBuffer(stageBytes(bodyMaxBytes))),
    encoderBell: createDoorbell(),
  };
}

/** Int32 slots that log, shipper and main share. */
export const FLOW_SLOT = {
  /** Ordinal of the segment that is being written; every lower one is sealed. Log thread. */
  activeOrdinal: 0,
  /** Every segment up to this ordinal is in ClickHouse. Shipper. */
  shippedThrough: 1,
  /** 1 while the shipper has nothing to do. Shipper. */
  shipperIdle: 2,
  /** Counts messages to the log thread, so that it need not poll its port. Main. */
  logMessages: 3,
  /** LOG_STATE. Log thread. */
  logState: 4,
  /** Ordinal of the first segment that this process wrote; lower ones are what it found. Log thread. */
  firstOrdinal: 5,
  /** Every segment up to this ordinal is in the rollup. Roller. */
  rolledThrough: 6,
  /** 1 when everything that was in ClickHouse when the roller started is in the rollup. Roller. */
  rollupReady: 7,
} as const;
const FLOW_SLOTS = 16;

export const LOG_STATE = { starting: 0, ok: 1, diskFull: 2, failing: 3, drained: 4 } as const;

export interface FlowMemory {
  readonly slots: SharedArrayBuffer;
  /** Unix ms of the first commit of each segment (0: none yet), at ordinal modulo SEGMENTS_MAX, as Float64. Log thread. */
  readonly firstCommits: SharedArrayBuffer;
  /** The same moments in ms on the clock of `monotonicMs`, which is one for all threads. Log thread, before firstCommits. */
  readonly firstCommitsMonotonic: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  readonly mainBell: SharedArrayBuffer;
  readonly logBell: SharedArrayBuffer;
  readonly shipperBell: SharedArrayBuffer;
}

export function createFlow(counters: SharedArrayBuffer): FlowMemory {
  return {
    slots: new SharedArrayBuffer(FLOW_SLOTS * 4),
    firstCommits: new SharedArrayBuffer(SEGMENTS_MAX * 8),
    firstCommitsMonotonic: new SharedArrayBuffer(SEGMENTS_MAX * 8),
    counters,
    mainBell: createDoorbell(),
    logBell: createDoorbell(),
    shipperBell: createDoorbell(),
  };
}

/**
 * A request in the input ring: u32 request number, u16 flags, u16 key length, f64 arrival in Unix µs, u32 length of the
 * body in the large-body slot, u32 unused; then the `Idempotency-Key` and, unless it is in the slot, the body.
 */
export const REQUEST = { number: 0, flags: 4, keyLength: 6, arrivalUs: 8, largeLength: 16, headBytes: 24 } as const;

export const REQUEST_FLAG = {
  bulk: 1,
  ndjson: 2,
  /** `Prefer: return=minimal`. */
  minimal: 4,
  /** The body is in the large-body slot. */
  large: 8,
} as const;

/** Content encodings, in bits 4–6 of the flags. */
export const ENCODINGS = ['identity', 'gzip', 'br', 'deflate', 'zstd'] as const;
export type BodyEncoding = (typeof ENCODINGS)[number];
export const ENCODING_SHIFT = 4;

/**
 * An answer in the result ring: u32 request number, u16 status, u16 whether it waits for rows, u32 rows of the channel up to
 * the last that it waits for (modulo 2^32), u32 events accepted, u32 events refused, u32 index of its code in ERROR_CODES (where
 * it is a refusal); then the body's bytes.
 */
export const RESULT = {
  number: 0,
  status: 4,
  waits: 6,
  rowsThrough: 8,
  accepted: 12,
  refused: 16,
  code: 20,
  headBytes: 24,
} as const;

/**
 * Rows in the rows ring: u32 number of rows, u32 rows of the channel up to the last of them (modulo 2^32), u32 number of the
 * stage that holds them, from 1 (0: they follow here), u32 their bytes in the stage; then RowBinary, where it follows. The
 * rows of one record are never divided between two commits.
 */
export const ROWS = { count: 0, through: 4, stage: 8, stageBytes: 12, headBytes: 16 } as const;

/** Messages to the log thread, counted in FLOW_SLOT.logMessages. */
export type LogMessage =
  | { readonly type: 'attach'; readonly id: number; readonly channel: ChannelMemory }
  /** No more rows come; take what is published, then set CHANNEL_SLOT.closed. */
  | { readonly type: 'close'; readonly id: number }
  /** Commit what is there, seal, and end the thread. */
  | { readonly type: 'drain' };

/** A message from main to the shipper. What comes from the log thread has no content: it wakes. */
export type ShipperMessage =
  /** The log is sealed for good: ship what is left for at most `timeoutMs`, then end the thread. */
  | { readonly type: 'drain'; readonly timeoutMs: number }
  /** A roller has started: `port` takes ShippedMessages, the first of them at once. */
  | { readonly type: 'roller'; readonly port: MessagePort };

/** To the roller: every segment up to this ordinal is in ClickHouse; of the last one these batches. */
export interface ShippedMessage {
  readonly ordinal: number;
  readonly batches: readonly ShippedBatch[];
}

/** A batch that ClickHouse has; times in Unix µs, both included. */
export interface ShippedBatch {
  readonly token: string;
  readonly rows: number;
  readonly receivedFromUs: number;
  readonly receivedToUs: number;
}
