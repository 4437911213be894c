import { type Sink, writeBytes, writeInt64, writeString, writeStringArray, writeUuid } from '../../shared/rowbinary.js';
import type { ValidEvent } from './validate.js';

/**
 * One row of `events`, columns in the order of EVENT_COLUMNS: with its twin for plain events, scan/row.ts, the only mirror of
 * schema.sql. Needs ROW_MAX_BYTES of room.
 */

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
