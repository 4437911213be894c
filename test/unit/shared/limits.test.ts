import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createChannel, REQUEST } from '../../../src/shared/channel.js';
import { DEFAULT_CHANNELS } from '../../../src/shared/event-schema.js';
import {
  BULK_ERRORS_MAX,
  DETAILS_MAX,
  EVENT_LIMITS,
  INLINE_BODY_MAX_BYTES,
  QUOTE_MAX_CHARS,
  resultRingBytes,
  ROW_MAX_BYTES,
  ROWS_RECORD_BYTES,
} from '../../../src/shared/limits.js';
import { RingProducer } from '../../../src/shared/ring.js';
import { Sink } from '../../../src/shared/rowbinary.js';
import { encodeEvent } from '../../../src/workers/encoder/encode-event.js';
import { EventFault } from '../../../src/workers/encoder/validate.js';

test('no event that is valid is longer than a row may be', () => {
  const sink = new Sink(Buffer.alloc(2 * ROW_MAX_BYTES));
  encodeEvent(
    sink,
    {
      eventName: 'n'.repeat(EVENT_LIMITS.eventNameMaxBytes),
      channel: DEFAULT_CHANNELS.toSorted((a, b) => b.length - a.length)[0] ?? '',
      userId: 'u'.repeat(EVENT_LIMITS.userIdMaxBytes),
      timestampMs: Number.MAX_SAFE_INTEGER,
      campaignId: 'c'.repeat(EVENT_LIMITS.campaignIdMaxBytes),
      tags: Array.from({ length: EVENT_LIMITS.tagsMax }, () => 't'.repeat(EVENT_LIMITS.tagMaxBytes)),
      metadata: Buffer.alloc(EVENT_LIMITS.metadataMaxBytes, 0x20),
      eventId: undefined,
    },
    new Uint8Array(16),
    Number.MAX_SAFE_INTEGER,
  );
  assert.ok(sink.at <= ROW_MAX_BYTES - 512, 'with room left for the name of a channel of one’s own');
});

test('whatever may enter a ring fits into it from every position', () => {
  for (const bulkMaxEvents of [1, 1000, 10_000, 100_000]) {
    const { input, rows, results } = createChannel(1024, bulkMaxEvents);
    assert.ok(new RingProducer(input).maxPayload >= INLINE_BODY_MAX_BYTES + REQUEST.headBytes + 36);
    assert.ok(new RingProducer(rows).maxPayload >= ROWS_RECORD_BYTES);
    assert.equal(results.byteLength - 128, resultRingBytes(bulkMaxEvents));
    // Each id in the answer takes 39 bytes, each error at most what this one does.
    const name = '\u0001'.repeat(QUOTE_MAX_CHARS);
    const details = Array.from({ length: DETAILS_MAX + 1 }, () => ({ path: `/${name}`, message: 'x'.repeat(256) }));
    const fault = new EventFault(details);
    const longest = JSON.stringify({ index: 0, error: fault.error, code: fault.code, details: fault.details }).length;
    assert.ok(new RingProducer(results).maxPayload >= bulkMaxEvents * 39 + BULK_ERRORS_MAX * longest + 1000);
  }
});
