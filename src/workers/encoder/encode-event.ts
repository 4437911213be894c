import {
  type Sink,
  writeInt64,
  writeString,
  writeStringArray,
  writeStringBytes,
  writeUuid,
} from '../../shared/rowbinary.js';
import type { ValidEvent } from './validate.js';

/** One row of `events`, columns in the order of EVENT_COLUMNS: the only mirror of schema.sql. Needs ROW_MAX_BYTES of room. */
export function encodeEvent(sink: Sink, event: ValidEvent, eventId: Uint8Array, receivedAtUs: number): void {
  writeUuid(sink, eventId);
  writeString(sink, event.eventName);
  writeString(sink, event.channel);
  writeString(sink, event.userId);
  writeInt64(sink, event.timestampMs);
  writeString(sink, event.campaignId);
  writeStringArray(sink, event.tags);
  writeStringBytes(sink, event.metadata, 0, event.metadata.length);
  writeInt64(sink, receivedAtUs);
}
