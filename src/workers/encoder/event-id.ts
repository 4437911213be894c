import { createXXHash128 } from 'hash-wasm';
import { type Sink, writeInt64, writeLongString } from '../../shared/rowbinary.js';

/**
 * The derived id of an event without `event_id` (docs/event-id.md, with test vectors): a UUID of version 8 over XXH3-128
 * of the canonical form below. It is stable across releases and instances: a change is a new VERSION, and then the same
 * event sent to an old and a new release counts twice.
 *
 *   u8     version, 1
 *   4 ×    u32 length, UTF-8 bytes: event_name, channel, user_id, campaign_id (absent = empty)
 *   i64    timestamp in milliseconds
 *   u32    number of tags, then u32 length and UTF-8 bytes of each
 *   u32    length of metadata, then its text without white space outside strings (absent = 0)
 *
 * Numbers are little-endian. scan/row.ts does the same for plain events.
 */
const VERSION = 1;

const hasher = await createXXHash128();

export interface Identified {
  readonly eventName: string;
  readonly channel: string;
  readonly userId: string;
  readonly campaignId: string;
  readonly timestampMs: number;
  readonly tags: readonly string[];
  /** Metadata without white space outside strings; empty where there is none. */
  readonly metadata: Uint8Array;
}

/** Writes the canonical form to `scratch` from its start, and returns the 16 bytes of the UUID in the order of its text. */
export function deriveEventId(event: Identified, scratch: Sink): Uint8Array {
  scratch.at = 0;
  scratch.buffer[scratch.at++] = VERSION;
  writeLongString(scratch, event.eventName);
  writeLongString(scratch, event.channel);
  writeLongString(scratch, event.userId);
  writeLongString(scratch, event.campaignId);
  writeInt64(scratch, event.timestampMs);
  writeUint32(scratch, event.tags.length);
  for (const tag of event.tags) writeLongString(scratch, tag);
  writeUint32(scratch, event.metadata.length);
  scratch.buffer.set(event.metadata, scratch.at);
  scratch.at += event.metadata.length;
  return asUuid(hasher.init().update(scratch.buffer.subarray(0, scratch.at)).digest('binary'));
}

/** A hash with the version and variant of a UUID. */
function asUuid(id: Uint8Array): Uint8Array {
  id[6] = ((id[6] ?? 0) & 0x0f) | 0x80; // version 8
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80; // variant of RFC 9562
  return id;
}

function writeUint32(sink: Sink, value: number): void {
  sink.view.setUint32(sink.at, value, true);
  sink.at += 4;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** The 36 characters of a UUID. */
export function formatUuid(uuid: Uint8Array): string {
  let text = '';
  for (let i = 0; i < 16; i += 1) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += '-';
    text += HEX[uuid[i] ?? 0];
  }
  return text;
}

const DIGITS = Buffer.from('0123456789abcdef');
const DASH = 0x2d;
/** Length of a UUID's text. */
export const UUID_CHARS = 36;

/** Writes a UUID's text, UUID_CHARS bytes. */
export function writeUuidText(uuid: Uint8Array, out: Uint8Array, at: number): void {
  let to = at;
  for (let i = 0; i < 16; i += 1) {
    if (i === 4 || i === 6 || i === 8 || i === 10) out[to++] = DASH;
    const byte = uuid[i] ?? 0;
    out[to++] = DIGITS[byte >> 4] ?? 0;
    out[to++] = DIGITS[byte & 15] ?? 0;
  }
}

/** The 16 bytes of a UUID's text, which the caller has matched against UUID_PATTERN. */
export function parseUuid(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replaceAll('-', ''), 'hex'));
}
