/**
 * What one would write by default: Fastify, its Ajv for the body, an array in memory, one INSERT of JSONEachRow a second.
 * An event that was answered 202 is lost when the process dies. With --sync each request's events are written to a file and
 * synced before the answer, which is the plain way to make them durable.
 *
 * As its makers recommend: production mode, no request log, keep-alive, response schemas for fast serialisation, one client with
 * keep-alive and compression off on loopback. Single events and bulk (`{"events":[…]}`, `[…]`, NDJSON).
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { createClient } from '@clickhouse/client';
import Fastify from 'fastify';

const FLUSH_MS = 1_000;
const BODY_MAX_BYTES = 16 * 1024 * 1024;
const TABLE = process.argv.includes('--sync') ? 'peer_sync' : 'peer_memory';

const event = {
  type: 'object',
  required: ['event_name', 'channel', 'user_id', 'timestamp'],
  additionalProperties: false,
  properties: {
    event_name: { type: 'string', minLength: 1, maxLength: 128 },
    channel: { type: 'string', enum: ['web', 'mobile', 'api', 'email', 'push'] },
    user_id: { type: 'string', minLength: 1, maxLength: 256 },
    timestamp: { type: 'integer', minimum: 1 },
    campaign_id: { type: 'string', nullable: true, maxLength: 256 },
    tags: { type: 'array', nullable: true, maxItems: 64, items: { type: 'string', minLength: 1, maxLength: 128 } },
    metadata: { type: 'object', nullable: true },
    event_id: { type: 'string', format: 'uuid' },
  },
};
const accepted = { type: 'object', properties: { status: { type: 'string' }, event_id: { type: 'string' } } };
const acceptedBulk = { type: 'object', properties: { accepted: { type: 'integer' } } };

const { url, user, password, database } = JSON.parse(process.env.BENCH_CLICKHOUSE);
const clickhouse = createClient({ url, username: user, password, database, keep_alive: { enabled: true } });
await clickhouse.command({
  query: `CREATE TABLE IF NOT EXISTS ${TABLE} (event_id UUID, event_name String, channel LowCardinality(String), user_id String,
    ts DateTime64(3, 'UTC'), campaign_id String, tags Array(String), metadata String)
    ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY (event_name, ts, event_id)`,
});

let buffer = [];
let flushing = Promise.resolve();

async function flush() {
  if (buffer.length === 0) return;
  const values = buffer;
  buffer = [];
  await clickhouse.insert({ table: TABLE, values, format: 'JSONEachRow' });
}
const timer = setInterval(() => {
  flushing = flushing.then(flush);
}, FLUSH_MS);

function collect(body) {
  const id = body.event_id ?? randomUUID();
  buffer.push({
    event_id: id,
    event_name: body.event_name,
    channel: body.channel,
    user_id: body.user_id,
    ts: body.timestamp,
    campaign_id: body.campaign_id ?? '',
    tags: body.tags ?? [],
    metadata: body.metadata ? JSON.stringify(body.metadata) : '',
  });
  return id;
}

/** `--sync`: the body is on disk before the answer. */
async function syncedFile() {
  const directory = mkdtempSync(join(process.env.BENCH_DATA_ROOT, 'bench-peer-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const file = await open(join(directory, 'log'), 'a');
  return async (text) => {
    await file.appendFile(`${text}\n`);
    await file.datasync();
  };
}
const keep = process.argv.includes('--sync') ? await syncedFile() : undefined;

const app = Fastify({ logger: false, bodyLimit: BODY_MAX_BYTES, keepAliveTimeout: 72_000 });
app.addContentTypeParser('application/x-ndjson', { parseAs: 'string' }, (_request, body, done) => {
  try {
    done(
      null,
      body
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    );
  } catch (error) {
    done(error);
  }
});
app.post('/events', { schema: { body: event, response: { 202: accepted } } }, async (request, reply) => {
  if (keep !== undefined) await keep(JSON.stringify(request.body));
  const id = collect(request.body);
  reply.code(202);
  return { status: 'accepted', event_id: id };
});
const events = { type: 'array', minItems: 1, maxItems: 10_000, items: event };
app.post('/events/bulk', { schema: { body: events, response: { 202: acceptedBulk } } }, async (request, reply) => {
  if (keep !== undefined) await keep(request.body.map((one) => JSON.stringify(one)).join('\n'));
  for (const one of request.body) collect(one);
  reply.code(202);
  return { accepted: request.body.length };
});

async function end() {
  clearInterval(timer);
  await app.close();
  await flushing;
  await flush();
  await clickhouse.close();
  process.exit(0);
}
process.once('SIGTERM', () => void end());
const address = await app.listen({ host: '127.0.0.1', port: 0 });
console.log(JSON.stringify({ msg: 'listening', url: address }));
