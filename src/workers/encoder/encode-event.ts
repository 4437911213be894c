import {
  type Sink,
  writeArrayLength,
  writeBytes,
  writeInt64,
  writeString,
  writeStringArray,
  writeStringBytes,
  writeUuid,
} from '../../shared/rowbinary.js';
import type { EventScanner } from './scan-event.js';
import type { ValidEvent } from './validate.js';

/** One row of `events`, columns in the order of EVENT_COLUMNS: the only mirror of schema.sql. Both need ROW_MAX_BYTES of room. */

export function encodeEvent(sink: Sink, event: ValidEvent, eventId: Uint8Array, receivedAtUs: number): void {
  writeUuid(sink, eventId);
  writeString(sink, event.eventName);
  writeString(sink, event.channel);
  writeString(sink, event.userId);
  writeInt64(sink, event.timestampMs);
  writeString(sink, event.campaignId);
  writeStringArray(sink, event.tags);
  writeBytes(sink, event.metadata);
  writeInt64(sink, receivedAtUs);
}

/** The same row from an event that was scanned. */
export function encodeScanned(sink: Sink, event: EventScanner, eventId: Uint8Array, receivedAtUs: number): void {
  const { text, metadata } = event;
  writeUuid(sink, eventId);
  writeStringBytes(sink, text, event.eventName.start, event.eventName.end);
  writeStringBytes(sink, text, event.channel.start, event.channel.end);
  writeStringBytes(sink, text, event.userId.start, event.userId.end);
  writeInt64(sink, event.timestampMs);
  writeStringBytes(sink, text, event.campaignId.start, event.campaignId.end);
  writeArrayLength(sink, event.tagCount);
  for (let i = 0; i < event.tagCount; i += 1) {
    const tag = event.tags[i];
    if (tag !== undefined) writeStringBytes(sink, text, tag.start, tag.end);
  }
  writeStringBytes(sink, event.metadataText, metadata.start, metadata.end);
  writeInt64(sink, receivedAtUs);
}
