import { type Static, Type } from './typebox.js';
import { EVENT_LIMITS } from './limits.js';

/**
 * What a producer may send, as one TypeBox schema: the encoders compile it, OpenAPI prints it.
 * Lengths are in bytes of UTF-8 where JSON Schema counts code points: the schema holds the shape and the bounds that both
 * agree on, `validate.ts` the byte lengths and what depends on the clock.
 */

/** A `timestamp` from here on is milliseconds: 10^11 s is the year 5138, 10^11 ms is March 1973. */
export const MILLISECONDS_FROM = 1e11;

export const DEFAULT_CHANNELS = ['web', 'mobile', 'api', 'email', 'push'] as const;

export const UUID_PATTERN = '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$';

export function eventSchema(channels: readonly string[]) {
  return Type.Object(
    {
      event_name: Type.String({
        minLength: 1,
        maxLength: EVENT_LIMITS.eventNameMaxBytes,
        description: '1–128 bytes of UTF-8, not `*`.',
        examples: ['product_view'],
      }),
      channel: Type.Enum([...channels], { description: 'Where the event came from.', examples: ['web'] }),
      user_id: Type.String({
        minLength: 1,
        maxLength: EVENT_LIMITS.userIdMaxBytes,
        description: '1–256 bytes of UTF-8.',
        examples: ['user_123'],
      }),
      timestamp: Type.Integer({
        exclusiveMinimum: 0,
        description:
          'When it happened, Unix seconds, at most PENSTOCK_FUTURE_TOLERANCE_S ahead of the server. A value of 10^11 or more is milliseconds.',
        examples: [1723475612],
      }),
      campaign_id: Type.Optional(
        Type.Union([Type.String({ maxLength: EVENT_LIMITS.campaignIdMaxBytes }), Type.Null()], {
          description: 'At most 256 bytes of UTF-8.',
          examples: ['cmp_987'],
        }),
      ),
      tags: Type.Optional(
        Type.Union(
          [
            Type.Array(Type.String({ minLength: 1, maxLength: EVENT_LIMITS.tagMaxBytes }), {
              maxItems: EVENT_LIMITS.tagsMax,
            }),
            Type.Null(),
          ],
          { description: 'At most 64 tags of 1–128 bytes of UTF-8.', examples: [['electronics', 'flash_sale']] },
        ),
      ),
      metadata: Type.Optional(
        Type.Union([Type.Object({}, { additionalProperties: true }), Type.Null()], {
          description: 'Any JSON object of at most 16 KiB as sent; its text is stored.',
          examples: [{ product_id: 'prod-789', price: 129.99 }],
        }),
      ),
      event_id: Type.Optional(
        Type.String({
          pattern: UUID_PATTERN,
          description:
            "The producer's idempotency key, a UUID. Without it the id is derived from the content: two events with the same content in the same second are then one.",
          examples: ['6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c11'],
        }),
      ),
    },
    { additionalProperties: false, description: 'One event.' },
  );
}

export type EventInput = Static<ReturnType<typeof eventSchema>>;
