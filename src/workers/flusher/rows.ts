import { formatUuid } from '../encoder/event-id.js';

/**
 * Reads back the rows that encode-event.ts writes, as far as shipping needs it: where a row ends, when its event happened,
 * and, for the few that ClickHouse does not take, the event itself. The bytes are trusted: a frame's checksum covers them.
 */

/** A place in row bytes. */
class Cursor {
  readonly bytes: Buffer;
  at: number;

  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  varint(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes[this.at] ?? 0;
      this.at += 1;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  skipString(): void {
    const length = this.varint();
    this.at += length;
  }

  string(): string {
    const length = this.varint();
    this.at += length;
    return this.bytes.toString('utf8', this.at - length, this.at);
  }

  int64(): number {
    const low = this.bytes.readUInt32LE(this.at);
    const high = this.bytes.readInt32LE(this.at + 4);
    this.at += 8;
    return high * 2 ** 32 + low;
  }
}

/** Calls back with every row of a frame's payload: where it ends, its event's time in Unix ms, and when it was received in Unix µs. */
export function walkRows(
  payload: Buffer,
  onRow: (end: number, timestampMs: number, receivedAtUs: number) => void,
): void {
  const cursor = new Cursor(payload, 0);
  while (cursor.at < payload.length) {
    cursor.at += 16;
    cursor.skipString();
    cursor.skipString();
    cursor.skipString();
    const timestampMs = cursor.int64();
    cursor.skipString();
    for (let tags = cursor.varint(); tags > 0; tags -= 1) cursor.skipString();
    cursor.skipString();
    const receivedAtUs = cursor.int64();
    onRow(cursor.at, timestampMs, receivedAtUs);
  }
}

/** An event as a producer would send it, with when it was received (Unix µs). */
export interface StoredEvent {
  readonly event: {
    readonly event_id: string;
    readonly event_name: string;
    readonly channel: string;
    readonly user_id: string;
    /** Unix ms. */
    readonly timestamp: number;
    readonly campaign_id?: string;
    readonly tags?: readonly string[];
    readonly metadata?: unknown;
  };
  readonly receivedAtUs: number;
}

/** The event in the row that starts at `at`. */
export function readRow(bytes: Buffer, at: number): StoredEvent {
  const cursor = new Cursor(bytes, at + 16);
  const event_id = formatUuid(uuidAt(bytes, at));
  const event_name = cursor.string();
  const channel = cursor.string();
  const user_id = cursor.string();
  const timestamp = cursor.int64();
  const campaign_id = cursor.string();
  const tags = Array.from({ length: cursor.varint() }, () => cursor.string());
  const metadata = cursor.string();
  return {
    event: {
      event_id,
      event_name,
      channel,
      user_id,
      timestamp,
      ...(campaign_id === '' ? {} : { campaign_id }),
      ...(tags.length === 0 ? {} : { tags }),
      ...(metadata === '' ? {} : { metadata: JSON.parse(metadata) as unknown }),
    },
    receivedAtUs: cursor.int64(),
  };
}

/** The inverse of `writeUuid`. */
function uuidAt(bytes: Buffer, at: number): Uint8Array {
  const uuid = new Uint8Array(16);
  for (let i = 0; i < 8; i += 1) {
    uuid[i] = bytes[at + 7 - i] ?? 0;
    uuid[8 + i] = bytes[at + 15 - i] ?? 0;
  }
  return uuid;
}
