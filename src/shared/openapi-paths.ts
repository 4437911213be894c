import type { ApiSchemas } from './api-schemas.js';
import type { Config } from './config.js';
import { formatBytes } from './config-text.js';
import { type ErrorBody, type ErrorCode, isRetryable, statusOf } from './errors.js';
import { UUID_PATTERN } from './event-schema.js';

/**
 * The operations of the public listener (api.md), as OpenAPI 3.1 path items. Schemas are referred to by name; refusals
 * are listed by their code, and the code table says which status that is and whether `Retry-After` comes with it.
 */

type Json = Readonly<Record<string, unknown>>;

function ref(name: keyof ApiSchemas): Json {
  return { $ref: `#/components/schemas/${name}` };
}

const RETRY_AFTER: Json = {
  description: 'Whole seconds after which the same request may succeed, computed from the state of the instance.',
  schema: { type: 'integer', minimum: 1 },
  example: 2,
};

const ALLOW: Json = { description: 'The methods of this path.', schema: { type: 'string' } };

const WWW_AUTHENTICATE: Json = { description: 'How to give a key.', schema: { type: 'string' }, example: 'Bearer' };

/** One example of each refusal, in the words that the service would use. */
const REFUSALS: Readonly<Record<ErrorCode, Omit<ErrorBody, 'code'>>> = {
  validation_error: {
    error: 'timestamp must be an integer',
    details: [{ path: '/timestamp', message: 'must be an integer' }],
  },
  timestamp_too_old: {
    error: 'timestamp is older than what is kept, which is 2026-01-01 on',
    details: [{ path: '/timestamp', message: 'is older than what is kept, which is 2026-01-01 on' }],
  },
  user_forgotten: {
    error: 'user_id is of a user who is to be forgotten',
    details: [{ path: '/user_id', message: 'is of a user who is to be forgotten' }],
  },
  query_too_costly: {
    error:
      'the answer has more groups, or takes more memory, than one may: narrow from and to, name an event or a channel, or group by less',
  },
  unauthorized: { error: 'an API key is required' },
  forbidden: { error: 'this API key does not have the scope that is needed' },
  not_found: { error: 'there is nothing here' },
  method_not_allowed: { error: 'this method is not allowed here' },
  payload_too_large: { error: 'the body is larger than is allowed' },
  unsupported_encoding: { error: 'this content encoding is not known' },
  rate_limited: { error: "the key's rate is exceeded" },
  internal_error: { error: 'the request could not be worked off' },
  overloaded: { error: 'too many requests are in flight' },
  log_full: { error: 'the log is full until ClickHouse takes events again' },
  disk_full: { error: 'the disk is full' },
  log_failed: { error: 'the log could not be written' },
  encoder_failed: { error: 'the thread that had this request died' },
  draining: { error: 'this instance is shutting down' },
  clickhouse_unavailable: { error: 'ClickHouse cannot be reached' },
  query_limit: { error: 'the query needs more time or memory than it may have' },
};

/** The responses for these refusals, one for each status. */
function refusals(codes: readonly ErrorCode[], allow = 'GET, HEAD'): Record<string, Json> {
  const statuses = [...new Set(codes.map(statusOf))];
  return Object.fromEntries(
    statuses.map((status) => {
      const those = codes.filter((code) => statusOf(code) === status);
      return [String(status), refusal(those, status === 405 ? allow : undefined)];
    }),
  );
}

function refusal(codes: readonly ErrorCode[], allow: string | undefined): Json {
  const headers: Record<string, Json> = {};
  if (codes.some((code) => isRetryable(code))) headers['Retry-After'] = RETRY_AFTER;
  if (codes.includes('unauthorized')) headers['WWW-Authenticate'] = WWW_AUTHENTICATE;
  if (allow !== undefined) headers['Allow'] = { ...ALLOW, example: allow };
  const examples = codes.map((code) => [code, { value: { ...REFUSALS[code], code } }]);
  return {
    description: codes.map((code) => `\`${code}\`: ${REFUSALS[code].error}.`).join(' '),
    ...(Object.keys(headers).length === 0 ? {} : { headers }),
    content: { 'application/json': { schema: ref('Error'), examples: Object.fromEntries(examples) as Json } },
  };
}

function answer(description: string, schema: Json): Json {
  return { description, content: { 'application/json': { schema } } };
}

const CONTENT_ENCODING: Json = {
  name: 'Content-Encoding',
  in: 'header',
  description:
    'How the body is compressed; the size limit applies to what it decodes to. `zstd` where the runtime has it.',
  schema: { type: 'string', enum: ['identity', 'gzip', 'br', 'deflate', 'zstd'] },
};

const INTAKE_REFUSALS: readonly ErrorCode[] = [
  'unauthorized',
  'forbidden',
  'method_not_allowed',
  'payload_too_large',
  'unsupported_encoding',
  'rate_limited',
  'internal_error',
  'overloaded',
  'log_full',
  'disk_full',
  'log_failed',
  'encoder_failed',
  'draining',
];

const EXAMPLE_EVENT: Json = {
  event_name: 'product_view',
  channel: 'web',
  user_id: 'user_123',
  timestamp: 1723475612,
  campaign_id: 'cmp_987',
  tags: ['electronics', 'flash_sale'],
  metadata: { product_id: 'prod-789', price: 129.99, currency: 'TRY', referrer: 'google' },
};

function exampleEvent(config: Config): Json {
  return { ...EXAMPLE_EVENT, channel: config.channels[0] };
}

function postEvent(config: Config): Json {
  const media = { schema: ref('Event'), examples: { event: { value: exampleEvent(config) } } };
  return {
    operationId: 'postEvent',
    tags: ['events'],
    summary: 'Send one event',
    description:
      `Answered when the event is durable. At most ${formatBytes(config.bodyMaxBytes)}. Any content type is read as JSON. ` +
      'An event is identified by `event_id`, `event_name` and `timestamp`, and counts once however often it is sent.',
    parameters: [
      {
        name: 'Idempotency-Key',
        in: 'header',
        description: 'The same as `event_id` in the body; a 400 where the two differ.',
        schema: { type: 'string', format: 'uuid', pattern: UUID_PATTERN },
      },
      CONTENT_ENCODING,
    ],
    requestBody: { required: true, content: { 'application/json': media, 'text/plain': media } },
    responses: {
      202: answer('The event is durable.', ref('Accepted')),
      ...refusals(['validation_error', 'timestamp_too_old', 'user_forgotten', ...INTAKE_REFUSALS], 'POST'),
    },
  };
}

function postBulk(config: Config): Json {
  const event = exampleEvent(config);
  const lines = `${JSON.stringify(event)}\n${JSON.stringify({ ...event, user_id: 'user_124' })}\n`;
  const ndjson = {
    schema: { type: 'string', description: 'One event a line; blank lines are skipped.' },
    examples: { lines: { value: lines } },
  };
  const { 400: refused, ...others } = refusals(['validation_error', ...INTAKE_REFUSALS], 'POST');
  const { content, ...refusedHead } = refused as { content: { 'application/json': Json } };
  return {
    operationId: 'postEvents',
    tags: ['events'],
    summary: 'Send many events',
    description:
      `Up to ${config.bulkMaxEvents} events and ${formatBytes(config.bodyMaxBytes)}. Valid events are taken although others ` +
      'in the body are not. A body of several JSON objects is read as NDJSON whatever its content type. A 503 has taken nothing.',
    parameters: [
      {
        name: 'Prefer',
        in: 'header',
        description: '`return=minimal` leaves `event_ids` out of the answer.',
        schema: { type: 'string' },
        example: 'return=minimal',
      },
      CONTENT_ENCODING,
    ],
    requestBody: {
      required: true,
      content: {
        'application/json': {
          schema: ref('BulkEvents'),
          examples: { object: { value: { events: [event] } }, array: { value: [event] } },
        },
        'application/x-ndjson': ndjson,
        'application/jsonl': ndjson,
      },
    },
    responses: {
      202: answer('At least one event is durable; `errors` says which were refused.', ref('BulkAccepted')),
      400: {
        ...refusedHead,
        description: 'Every event is refused, or the body is no such document or is empty.',
        content: {
          'application/json': { ...content['application/json'], schema: { anyOf: [ref('BulkRefused'), ref('Error')] } },
        },
      },
      ...others,
    },
  };
}

function query(name: string, description: string, schema: Json, more: Json = {}): Json {
  return { name, in: 'query', description, schema, ...more };
}

function getMetrics(config: Config): Json {
  const dimension = '(channel|hour|day|event_name)';
  return {
    operationId: 'getMetrics',
    tags: ['metrics'],
    summary: 'Count events and different users',
    description: 'Exact for any range, duplicates counted once. An unknown parameter is a 400.',
    parameters: [
      query(
        'event_name',
        '`*` means all.',
        { type: 'string', minLength: 1 },
        { required: true, example: 'product_view' },
      ),
      query('from', 'Unix seconds, inclusive. Without it, or before what is kept: everything kept.', {
        type: 'integer',
        minimum: 0,
      }),
      query('to', 'Unix seconds, inclusive.', { type: 'integer', minimum: 0 }),
      query(
        'channel',
        'Counts this channel only; one that never occurred gives zeros.',
        { type: 'string', minLength: 1 },
        {
          example: config.channels[0],
        },
      ),
      query(
        'group_by',
        'One of `channel`, `hour`, `day` and `event_name`, or two different ones joined by a comma.',
        { type: 'string', pattern: `^${dimension}(,${dimension})?$` },
        { examples: { one: { value: 'channel' }, two: { value: 'hour,channel' } } },
      ),
      query('limit', 'Groups on a page.', { type: 'integer', minimum: 1, maximum: 10_000, default: 1000 }),
      query('cursor', 'The `next_cursor` of the page before.', { type: 'string' }),
    ],
    responses: {
      200: answer('The counts.', { anyOf: [ref('MetricsTotal'), ref('MetricsGroups')] }),
      ...refusals([
        'validation_error',
        'query_too_costly',
        'unauthorized',
        'forbidden',
        'method_not_allowed',
        'rate_limited',
        'internal_error',
        'overloaded',
        'draining',
        'clickhouse_unavailable',
        'query_limit',
      ]),
    },
  };
}

/** Health needs no key: a load balancer has none. */
function getHealth(operationId: string, summary: string, responses: Json): Json {
  return {
    operationId,
    tags: ['health'],
    summary,
    security: [],
    responses: { ...responses, ...refusals(['method_not_allowed']) },
  };
}

function getPage(operationId: string, summary: string, contentType: string, schema: Json): Json {
  return {
    operationId,
    tags: ['documentation'],
    summary,
    security: [],
    responses: {
      200: { description: summary, content: { [contentType]: { schema } } },
      ...refusals(['method_not_allowed']),
    },
  };
}

export function paths(config: Config): Json {
  const healthy = { 200: answer('The process serves.', ref('Healthy')) };
  const ready = {
    200: answer('Events are accepted, also while ClickHouse is away.', ref('Ready')),
    503: answer('Send no requests here.', ref('NotReady')),
  };
  return {
    '/events': { post: postEvent(config) },
    '/events/bulk': { post: postBulk(config) },
    '/metrics': { get: getMetrics(config) },
    '/health': { get: getHealth('getHealth', 'Does the process serve?', healthy) },
    '/livez': { get: getHealth('getLivez', 'The same as `/health`', healthy) },
    '/healthz': {
      get: getHealth('getHealthz', 'The same, in other words', { 200: answer('The process serves.', ref('HealthOk')) }),
    },
    '/ready': { get: getHealth('getReady', 'Should this instance get requests?', ready) },
    '/readyz': { get: getHealth('getReadyz', 'The same as `/ready`', ready) },
    '/openapi.json': { get: getPage('getOpenApi', 'This document', 'application/json', { type: 'object' }) },
    '/docs': { get: getPage('getDocs', 'This document as a page', 'text/html', { type: 'string' }) },
  };
}
