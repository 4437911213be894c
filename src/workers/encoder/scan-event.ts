import { isUtf8 } from 'node:buffer';
import { MILLISECONDS_FROM } from '../../shared/event-schema.js';
import { EVENT_LIMITS } from '../../shared/limits.js';
import { type Bytes, Sink } from '../../shared/rowbinary.js';
import { UUID_CHARS } from './event-id.js';
import { compact, skipSpace } from './json-text.js';
import { type ObjectScan, plainEnd, scanObject, SCAN_FAILED } from './scan-json.js';
import type { ValidationOptions } from './validate.js';

/**
 * The one-pass encoder's reading half: takes an event apart straight from the bytes of its text, once, without building a
 * value. It knows plain events only: known members without escapes in names or values, a whole number of digits for a
 * timestamp, metadata of moderate shape. Anything else it hands back, valid or not, to JSON.parse and the schema
 * (validate.ts), which stay the definition of what is valid and the source of every message. So it may refuse to decide as
 * often as it likes, and must never accept what they would refuse, nor read a field differently; differential tests hold it
 * to that.
 */

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const ZERO = 0x30;
const NINE = 0x39;
const STAR = 0x2a;
const SPACE = 0x20;

/** Members of an event, by their bit in the mask of those that were seen. */
const MEMBERS = [
  'event_name',
  'channel',
  'user_id',
  'timestamp',
  'campaign_id',
  'tags',
  'metadata',
  'event_id',
] as const;
type Member = (typeof MEMBERS)[number];
/** With the quote behind it: no name is then the beginning of another. */
const NAMES: readonly Buffer[] = MEMBERS.map((name) => Buffer.from(`${name}"`));
const NAME_MAX_BYTES = Math.max(...NAMES.map((name) => name.length));
/** Names are compared four bytes at a time: three words, which may overlap, cover each of them. */
const SECOND_AT = NAMES.map((name) => Math.min(4, name.length - 4));
const LAST_AT = NAMES.map((name) => name.length - 4);
const FIRST_WORDS = NAMES.map((name) => name.readInt32LE(0));
const SECOND_WORDS = NAMES.map((name, index) => name.readInt32LE(SECOND_AT[index]));
const LAST_WORDS = NAMES.map((name, index) => name.readInt32LE(LAST_AT[index]));
if (NAME_MAX_BYTES > 12) throw new Error('a member of events has a name that three words do not cover');
const BIT = Object.fromEntries(MEMBERS.map((name, index) => [name, 1 << index])) as Readonly<Record<Member, number>>;
const REQUIRED = BIT.event_name | BIT.channel | BIT.user_id | BIT.timestamp;

/** 2^53 has 16 digits: so many are always exact. */
const DIGITS_MAX = 15;
const UUID_DASHES = [8, 13, 18, 23];
/** Where the digits of each byte of a UUID stand in its text. */
const UUID_BYTES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const DASH = 0x2d;

/** Where a field's bytes stand in the text; empty where the event does not have it. */
export interface Span {
  start: number;
  end: number;
}

/** The value of each hexadecimal digit's byte, -1 for the others. */
const HEX_VALUE = Int8Array.from({ length: 256 }, (_, byte) => {
  const value = Number.parseInt(String.fromCharCode(byte), 16);
  return Number.isNaN(value) ? -1 : value;
});

const NO_TEXT: Bytes = new Sink(Buffer.alloc(0));

/** Reads one event at a time; what it found stands in its fields. */
export class EventScanner {
  /** What the spans point into. */
  text: Bytes = NO_TEXT;
  readonly eventName: Span = { start: 0, end: 0 };
  readonly channel: Span = { start: 0, end: 0 };
  readonly userId: Span = { start: 0, end: 0 };
  readonly campaignId: Span = { start: 0, end: 0 };
  timestampMs = 0;
  readonly tags: Span[] = Array.from({ length: EVENT_LIMITS.tagsMax }, () => ({ start: 0, end: 0 }));
  tagCount = 0;
  /** Metadata without white space outside strings, in `metadataText`: the text itself where it has no such white space. */
  readonly metadata: Span = { start: 0, end: 0 };
  metadataText: Bytes = NO_TEXT;
  /** The producer's own id, where `hasEventId`. */
  readonly eventId = new Uint8Array(16);
  hasEventId = false;
  /** The position behind the event's closing brace. */
  behind = 0;
  /** Whether a byte beyond ASCII was seen; whether it is UTF-8 is found out at the end. */
  nonAscii = false;

  readonly #channels: readonly Uint8Array[];
  readonly #futureToleranceMs: number;
  readonly #object: ObjectScan = { hasSpace: false, nonAscii: false };
  readonly #compacted = new Sink(Buffer.alloc(EVENT_LIMITS.metadataMaxBytes));
  #seen = 0;

  constructor({ channels, futureToleranceS }: ValidationOptions) {
    this.#channels = channels.map((channel) => Buffer.from(channel));
    this.#futureToleranceMs = futureToleranceS * 1000;
  }

  /** Whether the text is a plain valid event; its fields are then set, until the next call. */
  scan(text: Buffer, start: number, end: number, arrivalMs: number): boolean {
    return this.scanAhead(text, start, end, arrivalMs) && skipSpace(text, this.behind, end) === end;
  }

  /** Whether the text begins with a plain valid event, which ends before `limit`; `behind` then says where. */
  scanAhead(text: Buffer, start: number, limit: number, arrivalMs: number): boolean {
    this.#reset();
    // Events come many in one buffer: a ring, a bulk body. The last body is held until the next event.
    if (this.text.buffer !== text) this.text = new Sink(text);
    let at = skipSpace(text, start, limit);
    if (text[at] !== OPEN_OBJECT) return false;
    at += 1;
    // Whoever looks beyond `limit` here finds nothing that it takes, or is then beyond it where the object ends.
    for (;;) {
      // Above a space there is no white space: most calls of skipSpace are not worth their cost.
      if ((text[at] ?? 0) <= SPACE) at = skipSpace(text, at, limit);
      at = this.#member(text, at, limit);
      if (at === SCAN_FAILED) return false;
      if ((text[at] ?? 0) <= SPACE) at = skipSpace(text, at, limit);
      const byte = text[at];
      at += 1;
      if (byte === COMMA) continue;
      if (byte !== CLOSE_OBJECT || at > limit) return false;
      break;
    }
    this.behind = at;
    return (
      (this.#seen & REQUIRED) === REQUIRED &&
      this.timestampMs <= arrivalMs + this.#futureToleranceMs &&
      (!this.nonAscii || isUtf8(text.subarray(start, at)))
    );
  }

  #reset(): void {
    this.#seen = 0;
    this.nonAscii = false;
    this.campaignId.end = this.campaignId.start;
    this.tagCount = 0;
    this.metadata.end = this.metadata.start;
    this.hasEventId = false;
  }

  /** One member from its name's quote; returns the position behind its value. */
  #member(text: Buffer, start: number, end: number): number {
    const index = memberAt(this.text, start);
    if (index === -1) return SCAN_FAILED;
    const bit = 1 << index;
    if ((this.#seen & bit) !== 0) return SCAN_FAILED;
    this.#seen |= bit;
    let at = start + 1 + (NAMES[index]?.length ?? 0);
    if (text[at] !== COLON) {
      at = skipSpace(text, at, end);
      if (text[at] !== COLON) return SCAN_FAILED;
    }
    at += 1;
    if ((text[at] ?? 0) <= SPACE) at = skipSpace(text, at, end);
    return this.#value(bit, text, at, end);
  }

  #value(bit: number, text: Buffer, at: number, end: number): number {
    switch (bit) {
      case BIT.event_name:
        return this.#eventName(text, at, end);
      case BIT.channel:
        return this.#channel(text, at, end);
      case BIT.user_id:
        return this.#string(text, at, end, this.userId, 1, EVENT_LIMITS.userIdMaxBytes);
      case BIT.timestamp:
        return this.#timestamp(text, at, end);
      case BIT.event_id:
        return this.#eventId(text, at, end);
      default:
        return isNull(text, at) ? at + 4 : this.#optional(bit, text, at, end);
    }
  }

  #optional(bit: number, text: Buffer, at: number, end: number): number {
    switch (bit) {
      case BIT.campaign_id:
        return this.#string(text, at, end, this.campaignId, 0, EVENT_LIMITS.campaignIdMaxBytes);
      case BIT.tags:
        return this.#tags(text, at, end);
      default:
        return this.#metadata(text, at, end);
    }
  }

  /** A string without escapes, of `min` to `max` bytes; returns where its value ends in the text. */
  #string(text: Buffer, at: number, end: number, span: Span, min: number, max: number): number {
    if (text[at] !== QUOTE) return SCAN_FAILED;
    const start = at + 1;
    const behind = plainEnd(this.text, start, Math.min(end, start + max + 1), this);
    if (text[behind] !== QUOTE || behind - start < min || behind - start > max || behind >= end) return SCAN_FAILED;
    span.start = start;
    span.end = behind;
    return behind + 1;
  }

  #eventName(text: Buffer, at: number, end: number): number {
    const behind = this.#string(text, at, end, this.eventName, 1, EVENT_LIMITS.eventNameMaxBytes);
    const { start, end: nameEnd } = this.eventName;
    return behind !== SCAN_FAILED && nameEnd - start === 1 && text[start] === STAR ? SCAN_FAILED : behind;
  }

  #channel(text: Buffer, at: number, end: number): number {
    const behind = this.#string(text, at, end, this.channel, 1, EVENT_LIMITS.tagMaxBytes);
    if (behind === SCAN_FAILED) return SCAN_FAILED;
    const { start, end: channelEnd } = this.channel;
    for (const channel of this.#channels) {
      if (channel.length === channelEnd - start && startsWith(text, start, channel)) return behind;
    }
    return SCAN_FAILED;
  }

  #timestamp(text: Buffer, start: number, end: number): number {
    let value = 0;
    let at = start;
    for (; at < end && at - start <= DIGITS_MAX; at += 1) {
      const byte = text[at] ?? 0;
      if (byte < ZERO || byte > NINE) break;
      value = value * 10 + (byte - ZERO);
    }
    const digits = at - start;
    // A zero in front is no JSON, a zero alone no timestamp; a fraction or exponent ends the digits and is not plain.
    if (digits === 0 || digits > DIGITS_MAX || text[start] === ZERO) return SCAN_FAILED;
    this.timestampMs = value >= MILLISECONDS_FROM ? value : value * 1000;
    return at;
  }

  #tags(text: Buffer, start: number, end: number): number {
    if (text[start] !== OPEN_ARRAY) return SCAN_FAILED;
    let at = skipSpace(text, start + 1, end);
    if (text[at] === CLOSE_ARRAY) return at + 1;
    for (;;) {
      const span = this.tags[this.tagCount];
      if (span === undefined) return SCAN_FAILED;
      at = this.#string(text, at, end, span, 1, EVENT_LIMITS.tagMaxBytes);
      if (at === SCAN_FAILED) return SCAN_FAILED;
      this.tagCount += 1;
      if ((text[at] ?? 0) <= SPACE) at = skipSpace(text, at, end);
      const byte = text[at];
      at += 1;
      if (byte === CLOSE_ARRAY) return at;
      if (byte !== COMMA) return SCAN_FAILED;
      if ((text[at] ?? 0) <= SPACE) at = skipSpace(text, at, end);
    }
  }

  #metadata(text: Buffer, at: number, end: number): number {
    const object = this.#object;
    const behind = scanObject(this.text, at, Math.min(end, at + EVENT_LIMITS.metadataMaxBytes), object);
    if (behind === SCAN_FAILED) return SCAN_FAILED;
    if (object.nonAscii) this.nonAscii = true;
    if (object.hasSpace) {
      this.metadataText = this.#compacted;
      this.metadata.start = 0;
      this.metadata.end = compact(text, at, behind, this.#compacted.buffer, 0);
    } else {
      this.metadataText = this.text;
      this.metadata.start = at;
      this.metadata.end = behind;
    }
    return behind;
  }

  #eventId(text: Buffer, at: number, end: number): number {
    const start = at + 1;
    if (text[at] !== QUOTE || start + UUID_CHARS >= end || text[start + UUID_CHARS] !== QUOTE) return SCAN_FAILED;
    for (const dash of UUID_DASHES) if (text[start + dash] !== DASH) return SCAN_FAILED;
    for (let i = 0; i < UUID_BYTES.length; i += 1) {
      const from = start + (UUID_BYTES[i] ?? 0);
      const value = ((HEX_VALUE[text[from] ?? 0] ?? -1) << 4) | (HEX_VALUE[text[from + 1] ?? 0] ?? -1);
      if (value < 0) return SCAN_FAILED;
      this.eventId[i] = value;
    }
    this.hasEventId = true;
    return start + UUID_CHARS + 1;
  }
}

/** Index in MEMBERS of the name whose opening quote is at `at`; -1 for any other. */
function memberAt({ buffer, view }: Bytes, at: number): number {
  if (buffer[at] !== QUOTE) return -1;
  const start = at + 1;
  if (start + NAME_MAX_BYTES > buffer.length) return NAMES.findIndex((name) => startsWith(buffer, start, name));
  const first = view.getInt32(start, true);
  for (let index = 0; index < NAMES.length; index += 1) {
    if (
      FIRST_WORDS[index] === first &&
      view.getInt32(start + (SECOND_AT[index] ?? 0), true) === SECOND_WORDS[index] &&
      view.getInt32(start + (LAST_AT[index] ?? 0), true) === LAST_WORDS[index]
    ) {
      return index;
    }
  }
  return -1;
}

function startsWith(text: Buffer, at: number, bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i += 1) if (text[at + i] !== bytes[i]) return false;
  return true;
}

function isNull(text: Buffer, at: number): boolean {
  return text[at] === 0x6e && text[at + 1] === 0x75 && text[at + 2] === 0x6c && text[at + 3] === 0x6c;
}
