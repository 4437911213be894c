import { Type } from './typebox.js';
import { ERROR_CODES } from './errors.js';
import { eventSchema, UUID_PATTERN } from './event-schema.js';
import { BULK_ERRORS_MAX } from './limits.js';

/**
 * The bodies that Penstock answers, as TypeBox schemas beside the one of what it is sent (`event-schema.ts`). OpenAPI
 * prints them; the contract tests hold real answers to them.
 */

const EXAMPLE_ID = '6f1c0a52-0b1e-4d8e-9a3b-2f4f5f1f7c11';
const CLOSED = { additionalProperties: false };

const uuid = () => Type.String({ format: 'uuid', pattern: UUID_PATTERN });
const count = (description: string) => Type.Integer({ minimum: 0, description });

const errorDetail = Type.Object(
  {
    path: Type.String({ description: 'JSON pointer into what was sent; for a query, `/` and the parameter.' }),
    message: Type.String({ description: 'The rule that is broken.' }),
  },
  { ...CLOSED, description: 'One broken rule.' },
);

const errorMembers = {
  error: Type.String({ description: 'What is wrong, for people.' }),
  code: Type.Enum([...ERROR_CODES], { description: 'What is wrong, for programs; stable.' }),
  details: Type.Optional(Type.Array(errorDetail, { description: 'Each broken rule.' })),
};

const errorBody = Type.Object(errorMembers, { ...CLOSED, description: 'Every answer that is not a success.' });

const accepted = Type.Object(
  {
    status: Type.Literal('accepted'),
    event_id: Type.String({ ...uuid(), description: 'As sent, or derived from the content.' }),
  },
  {
    ...CLOSED,
    description: 'The event is durable.',
    examples: [{ status: 'accepted', event_id: EXAMPLE_ID }],
  },
);

const bulkError = Type.Object(
  { index: count('Position in the body, from 0; in NDJSON lines that are blank do not count.'), ...errorMembers },
  { ...CLOSED, description: 'Why one event was refused.' },
);

const bulkMembers = {
  accepted: count('Events that are durable.'),
  rejected: count('Events that were refused, all of them.'),
  event_ids: Type.Optional(
    Type.Array(Type.Union([uuid(), Type.Null()]), {
      description: 'In the order of the body, null for a refused event; left out with `Prefer: return=minimal`.',
    }),
  ),
  errors: Type.Array(bulkError, {
    maxItems: BULK_ERRORS_MAX,
    description: `The first ${BULK_ERRORS_MAX} refused events.`,
  }),
};

const exampleBulkError = {
  index: 1,
  error: 'user_id is required',
  code: 'validation_error',
  details: [{ path: '/user_id', message: 'is required' }],
};

const bulkAccepted = Type.Object(bulkMembers, {
  ...CLOSED,
  description: 'The valid events of the body are durable.',
  examples: [{ accepted: 1, rejected: 1, event_ids: [EXAMPLE_ID, null], errors: [exampleBulkError] }],
});

const bulkRefused = Type.Object(
  { error: errorMembers.error, code: errorMembers.code, ...bulkMembers },
  {
    ...CLOSED,
    description: 'Every event in the body was refused.',
    examples: [
      {
        error: 'every event was refused',
        code: 'validation_error',
        accepted: 0,
        rejected: 1,
        event_ids: [null],
        errors: [{ ...exampleBulkError, index: 0 }],
      },
    ],
  },
);

const seconds = (description: string) => Type.Integer({ minimum: 0, description });

const metricsHead = {
  event_name: Type.String({ description: 'As asked; `*` is all.' }),
  from: Type.Optional(
    seconds('As asked, or where what is kept begins if that is later; left out where it was not asked.'),
  ),
  to: Type.Optional(seconds('As asked; left out where it was not.')),
};

const metricsCounts = {
  total_events: count('Events, each counted once.'),
  unique_users: count('Different users among them.'),
};

const asOf = Type.Number({
  description: 'Unix seconds with fraction: what this instance acknowledged before is counted, what came later may be.',
});

const metricsTotal = Type.Object(
  { ...metricsHead, ...metricsCounts, as_of: asOf },
  {
    ...CLOSED,
    description: 'The answer without `group_by`.',
    examples: [{ event_name: 'product_view', total_events: 10200, unique_users: 5100, as_of: 1772111099.512 }],
  },
);

const groupMembers = {
  hour: Type.Optional(Type.String({ description: 'Start of the hour, UTC.', examples: ['2026-02-25T13:00:00Z'] })),
  day: Type.Optional(Type.String({ description: 'The day, UTC.', examples: ['2026-02-25'] })),
  channel: Type.Optional(Type.String()),
  event_name: Type.Optional(Type.String()),
};

const metricsGroup = Type.Object(
  {
    group: Type.Union([Type.String(), Type.Object(groupMembers, { ...CLOSED, minProperties: 2, maxProperties: 2 })], {
      description: 'The value of the one dimension, or an object of the two, time first.',
    }),
    ...metricsCounts,
  },
  CLOSED,
);

const metricsGroups = Type.Object(
  {
    ...metricsHead,
    grouped_by: Type.String({ description: 'As asked.' }),
    data: Type.Array(metricsGroup, {
      description: 'Times in order, otherwise largest first, then by name. No group is filled in with zeros.',
    }),
    next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'For the next page; null on the last.' }),
    as_of: asOf,
  },
  {
    ...CLOSED,
    description: 'The answer with `group_by`.',
    examples: [
      {
        event_name: 'product_view',
        from: 1772024670,
        to: 1772111070,
        grouped_by: 'channel',
        data: [{ group: 'web', total_events: 10200, unique_users: 5100 }],
        next_cursor: null,
        as_of: 1772111099.512,
      },
    ],
  },
);

const checks = Type.Record(Type.String(), Type.String(), {
  description: 'Of `wal`, `encoders`, `flusher`, `clickhouse` and `shutdown` those with something to say.',
});

const healthy = Type.Object(
  { status: Type.Literal('healthy') },
  { ...CLOSED, description: 'The process serves.', examples: [{ status: 'healthy' }] },
);

const healthOk = Type.Object(
  { status: Type.Literal('ok') },
  { ...CLOSED, description: 'The process serves.', examples: [{ status: 'ok' }] },
);

const ready = Type.Object(
  { status: Type.Literal('ready'), checks: Type.Optional(checks) },
  {
    ...CLOSED,
    description: 'Events are accepted.',
    examples: [
      { status: 'ready' },
      { status: 'ready', checks: { clickhouse: 'degraded: ECONNREFUSED connect ECONNREFUSED 127.0.0.1:8123' } },
    ],
  },
);

const notReady = Type.Object(
  { status: Type.Literal('not_ready'), checks },
  {
    ...CLOSED,
    description: 'Send no requests here; the reasons are in `checks`.',
    examples: [{ status: 'not_ready', checks: { wal: 'the log is full' } }],
  },
);

/** Every schema that has a name in the document. */
export function apiSchemas(config: { readonly channels: readonly string[]; readonly bulkMaxEvents: number }) {
  const event = eventSchema(config.channels);
  const events = Type.Array(event, { minItems: 1, maxItems: config.bulkMaxEvents });
  const bulkEnvelope = Type.Object({ events }, CLOSED);
  return {
    Event: event,
    BulkEvents: Type.Union([bulkEnvelope, events], { description: 'An object of events, or the bare array.' }),
    Accepted: accepted,
    BulkAccepted: bulkAccepted,
    BulkRefused: bulkRefused,
    BulkError: bulkError,
    Error: errorBody,
    ErrorDetail: errorDetail,
    MetricsTotal: metricsTotal,
    MetricsGroups: metricsGroups,
    MetricsGroup: metricsGroup,
    Healthy: healthy,
    HealthOk: healthOk,
    Ready: ready,
    NotReady: notReady,
  };
}

export type ApiSchemas = ReturnType<typeof apiSchemas>;
