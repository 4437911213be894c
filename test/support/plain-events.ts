import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { createForgottenUsers, ForgottenUsers } from '../../src/shared/forgotten-users.js';
import { sipHash128 } from '../../src/shared/sip-hash.js';
import { EventEncoder } from '../../src/workers/encoder/event-encoder.js';

/** Events for the one-pass encoder, plain and not, and encoders to hold it to the readable way. */

const OPTIONS = { channels: ['web', 'mobile', 'api', 'email', 'push', 'größe'], futureToleranceS: 60 };
export const NOW_US = 1_764_000_000_000_000;

export const plainEncoder = new EventEncoder(OPTIONS);
/** Keeps 30 days, 2025-10-25 on, and has been told to forget. */
export const EDGE_S = Date.UTC(2025, 9, 25) / 1000;
const forgotten = new ForgottenUsers(createForgottenUsers());
for (const id of ['usér_123', 'u', '"']) {
  forgotten.add({ crc32: crc32(id), hash: sipHash128(Buffer.from(id)) });
}
export const keepingEncoder = new EventEncoder({ ...OPTIONS, retentionDays: 30 }, forgotten);

const plainText = fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme' });
export const event = fc.record(
  {
    event_name: fc.oneof(
      plainText,
      fc.constantFrom('*', '', 'x'.repeat(128), 'x'.repeat(129), 'ü'.repeat(64), 'ü'.repeat(65)),
    ),
    channel: fc.constantFrom('web', 'mobile', 'größe', 'w', 'webb', ''),
    user_id: fc.oneof(plainText, fc.constantFrom('u'.repeat(256), 'u'.repeat(257), '')),
    timestamp: fc.oneof(
      fc.integer({ min: 1, max: 1_764_000_060 }),
      fc.constantFrom(
        0,
        -1,
        1.5,
        1_764_000_061,
        EDGE_S,
        EDGE_S - 1,
        EDGE_S * 1000,
        EDGE_S * 1000 - 1,
        1e11,
        1e11 - 1,
        1_764_000_060_000,
        1_764_000_060_001,
        1e300,
        '5',
        null,
      ),
    ),
    campaign_id: fc.oneof(plainText, fc.constantFrom(null, '', 'c'.repeat(256), 'c'.repeat(257))),
    tags: fc.oneof(
      fc.array(plainText, { maxLength: 5 }),
      fc.constantFrom<unknown>(null, [], [''], ['a', 1], Array(64).fill('t'), Array(65).fill('t'), ['t'.repeat(129)]),
    ),
    metadata: fc.oneof(
      fc.dictionary(plainText, fc.jsonValue({ maxDepth: 4 }), { maxKeys: 6 }),
      fc.constantFrom<unknown>(null, {}, [], 'x', { a: { b: { c: [1, { d: null }] } } }, { long: 'm'.repeat(17_000) }),
    ),
    event_id: fc.oneof(fc.uuid(), fc.constantFrom('', 'x', '6F1C0A52-0b1e-4d8e-9a3b-2f4f5f1f7c11', null)),
    unknown: fc.constant(1),
  },
  { requiredKeys: ['event_name', 'channel', 'user_id', 'timestamp'] },
);

const word = fc.stringMatching(/^[a-zé_]{1,12}$/);
export const plainEvent = fc.record(
  {
    event_name: word,
    channel: fc.constantFrom('web', 'größe'),
    user_id: fc.oneof(word, fc.constantFrom('usér_123', 'u')),
    timestamp: fc.integer({ min: EDGE_S - 10 * 86_400, max: 1_764_000_060 }),
    campaign_id: fc.option(word),
    tags: fc.option(fc.array(word, { maxLength: 4 })),
    metadata: fc.option(fc.dictionary(word, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 5 })),
    event_id: fc.uuid(),
  },
  { requiredKeys: ['event_name', 'channel', 'user_id', 'timestamp'] },
);

/** Layouts that mean the same. */
export const layout = fc.constantFrom<(value: object) => string>(
  (value) => JSON.stringify(value),
  (value) => JSON.stringify(value, undefined, 2),
  (value) => ` ${JSON.stringify(Object.fromEntries(Object.entries(value).toReversed()), undefined, '\t')}\r\n`,
  (value) => JSON.stringify(value).replaceAll('/', '\\/').replaceAll('e', '\\u0065'),
);
