import assert from 'node:assert/strict';
import type { Service } from './service.js';

/** Requests to a running service, and what its answers have in common. */

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Version 8, variant of RFC 9562. */
export const DERIVED_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

export interface Detail {
  readonly path: string;
  readonly message: string;
}

export interface BulkError {
  readonly index: number;
  readonly error: string;
  readonly code: string;
  readonly details: readonly Detail[];
}

/** Members that an answer may have. */
export interface AnswerBody {
  readonly status?: string;
  readonly event_id?: string;
  readonly accepted?: number;
  readonly rejected?: number;
  readonly event_ids?: readonly (string | null)[];
  readonly errors?: readonly BulkError[];
  readonly error?: string;
  readonly code?: string;
  readonly details?: readonly Detail[];
  readonly checks?: Readonly<Record<string, string>>;
  readonly from?: number;
  readonly total_events?: number;
  readonly unique_users?: number;
  readonly as_of?: number;
  readonly data?: readonly { readonly group: unknown; readonly total_events: number; readonly unique_users: number }[];
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: AnswerBody;
}

export type HeaderFields = Readonly<Record<string, string>>;

export const TIMESTAMP = 1_723_475_612;

/** A valid event; members that are `undefined` are left out of its JSON. */
export function event(members: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { event_name: 'product_view', channel: 'web', user_id: 'user_1', timestamp: TIMESTAMP, ...members };
}

export async function send(url: string, init: RequestInit = {}): Promise<Answered> {
  const response = await fetch(url, init);
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: parse(text) };
}

function parse(text: string): AnswerBody {
  try {
    return JSON.parse(text) as AnswerBody;
  } catch {
    return {};
  }
}

type Body = string | Uint8Array | Readonly<Record<string, unknown>>;

function bytesOf(body: Body): string | Uint8Array<ArrayBuffer> {
  if (typeof body === 'string') return body;
  return body instanceof Uint8Array ? new Uint8Array(body) : JSON.stringify(body);
}

/** POST /events; an object is sent as its JSON. */
export function postEvent(service: Service, body: Body, headers: HeaderFields = {}): Promise<Answered> {
  return send(`${service.url}/events`, { method: 'POST', body: bytesOf(body), headers });
}

/** POST /events/bulk. */
export function postBulk(service: Service, body: Body, headers: HeaderFields = {}): Promise<Answered> {
  return send(`${service.url}/events/bulk`, { method: 'POST', body: bytesOf(body), headers });
}

/** GET /metrics. */
export function metrics(service: Service, parameters: Readonly<Record<string, string>>): Promise<Answered> {
  return send(`${service.url}/metrics?${new URLSearchParams(parameters).toString()}`);
}

export function assertAccepted(answer: Answered): string {
  assert.equal(answer.status, 202, answer.text);
  const { status, event_id: id = '' } = answer.body;
  assert.equal(status, 'accepted');
  assert.match(id, UUID);
  assert.deepEqual(Object.keys(answer.body), ['status', 'event_id']);
  return id;
}

/** The one shape of every refusal; returns the first detail's path where there are details. */
export function assertRefused(answer: Answered, status: number, code: string): Answered {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.body.code, code, answer.text);
  assert.equal(typeof answer.body.error, 'string');
  assert.notEqual(answer.body.error, '');
  assert.match(answer.headers.get('content-type') ?? '', /^application\/json/);
  for (const detail of answer.body.details ?? []) {
    assert.deepEqual(Object.keys(detail), ['path', 'message']);
    assert.equal(typeof detail.message, 'string');
    assert.match(detail.path, /^($|\/)/);
  }
  const retryAfter = answer.headers.get('retry-after');
  if (status === 503 || status === 429) assert.match(retryAfter ?? '', /^[1-9]\d*$/);
  else assert.equal(retryAfter, null);
  return answer;
}

/** A 400 that names the field and its rule. */
export function assertInvalid(answer: Answered, path: string): Answered {
  assertRefused(answer, 400, 'validation_error');
  assert.equal(answer.body.details?.[0]?.path, path, answer.text);
  const field = path.split('/')[1]?.replaceAll('~1', '/').replaceAll('~0', '~');
  if (field !== undefined) assert.ok(answer.body.error?.includes(field), answer.text);
  return answer;
}

/** Rows of `events` with this name, duplicates included, in order of arrival. */
export async function storedRows(service: Service, eventName: string): Promise<StoredRow[]> {
  await service.settled();
  const client = service.clickhouse();
  try {
    const result = await client.query({
      query: `SELECT toString(event_id) AS event_id, event_name, channel, user_id, toUnixTimestamp64Milli(ts) AS ts, campaign_id, tags, metadata
        FROM penstock.events WHERE event_name = {name:String} ORDER BY received_at`,
      query_params: { name: eventName },
      format: 'JSONEachRow',
      clickhouse_settings: { output_format_json_quote_64bit_integers: 0 },
    });
    return await result.json<StoredRow>();
  } finally {
    await client.close();
  }
}

export interface StoredRow {
  readonly event_id: string;
  readonly event_name: string;
  readonly channel: string;
  readonly user_id: string;
  readonly ts: number;
  readonly campaign_id: string;
  readonly tags: readonly string[];
  readonly metadata: string;
}
