import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { finished } from 'node:stream/promises';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { EVENT_COLUMNS } from '../../../src/shared/event-columns.js';
import { EVENT_LIMITS, ROW_MAX_BYTES } from '../../../src/shared/limits.js';
import { Sink, writeInt64, writeString, writeStringArray, writeUuid } from '../../../src/shared/rowbinary.js';
import { encodeEvent } from '../../../src/workers/encoder/encode-event.js';
import { formatUuid } from '../../../src/workers/encoder/event-id.js';
import type { ValidEvent } from '../../../src/workers/encoder/validate.js';
import { startTestClickHouse, type TestClickHouse } from '../../support/clickhouse.js';
import { anyEvent } from '../../support/event-text.js';
import { tries } from '../../support/property.js';

/** The oracle is ClickHouse: it reads what was encoded, and tells as JSON what it has read. */

let clickhouse: TestClickHouse;
let database: string;

before(async () => {
  clickhouse = await startTestClickHouse();
  database = await clickhouse.newDatabase();
});
after(() => clickhouse.stop());

type Write<T> = (sink: Sink, value: T) => void;

function encode<T>(values: readonly T[], write: Write<T>, bytes = 1024 * 1024): Buffer {
  const sink = new Sink(Buffer.alloc(bytes, 0xee));
  for (const value of values) write(sink, value);
  return sink.buffer.subarray(0, sink.at);
}

async function insert(table: string, columns: readonly string[], rows: Uint8Array): Promise<void> {
  const { stream } = await clickhouse.client.exec({
    query: `INSERT INTO ${table} (${columns.join(', ')}) FORMAT RowBinary`,
    values: Readable.from([rows], { objectMode: false }),
    clickhouse_settings: { async_insert: 0, wait_end_of_query: 1 },
  });
  await finished(stream.resume());
}

async function read(query: string): Promise<Record<string, unknown>[]> {
  const result = await clickhouse.client.query({
    query,
    format: 'JSONEachRow',
    clickhouse_settings: { output_format_json_quote_64bit_integers: 1 },
  });
  return result.json<Record<string, unknown>>();
}

/** What ClickHouse reads from the encoded values, as the given type, through a table of its own. */
async function readBack<T>(
  type: string,
  values: readonly T[],
  write: Write<T>,
  shown = 'v',
  bytes?: number,
): Promise<unknown[]> {
  const table = `${database}.t_${Math.random().toString(36).slice(2)}`;
  await clickhouse.client.command({ query: `CREATE TABLE ${table} (n UInt64, v ${type}) ENGINE = Memory` });
  let n = 0;
  const numbered: Write<T> = (sink, value) => {
    writeInt64(sink, n);
    n += 1;
    write(sink, value);
  };
  await insert(table, ['n', 'v'], encode(values, numbered, bytes));
  const rows = await read(`SELECT ${shown} AS v FROM ${table} ORDER BY n`);
  await clickhouse.client.command({ query: `DROP TABLE ${table}` });
  return rows.map(({ v }) => v);
}

test('every code point of Unicode is read back as it was written', async () => {
  const chunks: string[] = [];
  let chunk = '';
  // Chunks of every length, so that the short way and the long way both meet everything.
  for (let code = 0; code <= 0x10ffff; code += 1) {
    if (code === 0xd800) code = 0xe000;
    chunk += String.fromCodePoint(code);
    if (chunk.length < 1 + (chunks.length % 300)) continue;
    chunks.push(chunk);
    chunk = '';
  }
  chunks.push(chunk);
  const seen = await readBack('String', chunks, writeString, 'v', 16 * 1024 * 1024);
  assert.deepEqual(seen, chunks);
  assert.equal(chunks.join('').length, 0x10000 - 0x800 + 2 * 0x100000);
});

test('strings and bytes of every length about the edges of a length prefix are read back', async () => {
  const lengths = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 47, 48, 49, 126, 127, 128, 129, 255, 256, 257, 16_382, 16_383, 16_384, 16_385, 65_536,
    2_097_151, 2_097_152,
  ];
  for (const unit of ['a', 'é', '€', '😀']) {
    const texts = lengths.map(
      (length) => unit.repeat(length / Buffer.byteLength(unit)) + 'x'.repeat(length % Buffer.byteLength(unit)),
    );
    const room = 16 * 1024 * 1024;
    assert.deepEqual(await readBack('String', texts, writeString, 'v', room), texts);
  }
});

test('64-bit integers are read back up to the last that a number can hold', async () => {
  const edges = [
    0,
    1,
    -1,
    127,
    -128,
    255,
    256,
    2 ** 31 - 1,
    2 ** 31,
    -(2 ** 31),
    -(2 ** 31) - 1,
    2 ** 32 - 1,
    2 ** 32,
    -(2 ** 32),
    2 ** 52,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
  ];
  const sample = fc.sample(fc.maxSafeInteger(), 500);
  const values = [...edges, ...sample];
  assert.deepEqual(
    await readBack('Int64', values, writeInt64),
    values.map((value) => String(value === 0 ? 0 : value)),
  );
});

test('a UUID is read back in the order of its text', async () => {
  const ids = [
    ...fc.sample(fc.uint8Array({ minLength: 16, maxLength: 16 }), 200),
    new Uint8Array(16),
    new Uint8Array(16).fill(255),
    Uint8Array.from({ length: 16 }, (_, i) => i * 17),
  ];
  assert.deepEqual(await readBack('UUID', ids, writeUuid), ids.map(formatUuid));
});

test('arrays of strings are read back, empty, long and with empty strings', async () => {
  const arrays = [
    [],
    [''],
    ['', '', 'x'],
    Array.from({ length: 127 }, (_, i) => `${i}`),
    Array.from({ length: 128 }, (_, i) => `${i}`),
    Array.from({ length: 16_383 }, () => ''),
    Array.from({ length: 16_384 }, () => 'x'),
    Array.from({ length: EVENT_LIMITS.tagsMax }, () => '€'.repeat(42)),
    ...fc.sample(fc.array(fc.string({ unit: 'binary', maxLength: 60 })), 100),
  ];
  assert.deepEqual(await readBack('Array(String)', arrays, writeStringArray), arrays);
});

const event = fc
  .record({
    fields: anyEvent,
    id: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    receivedAtUs: fc.integer({ min: 1, max: 4_000_000_000_000_000 }),
  })
  .map(({ fields, id, receivedAtUs }) => ({
    id,
    receivedAtUs,
    row: {
      eventName: fields.event_name,
      channel: fields.channel,
      userId: fields.user_id,
      timestampMs: fields.timestamp >= 1e11 ? fields.timestamp : fields.timestamp * 1000,
      campaignId: fields.campaign_id ?? '',
      tags: fields.tags ?? [],
      metadata: Buffer.from(
        fields.metadata === undefined || fields.metadata === null ? '' : JSON.stringify(fields.metadata),
      ),
      eventId: undefined,
    } satisfies ValidEvent,
  }));

const LONGEST: ValidEvent = {
  eventName: '€'.repeat(42),
  channel: 'mobile',
  userId: '😀'.repeat(64),
  timestampMs: 4_000_000_000_000,
  campaignId: 'c'.repeat(256),
  tags: Array.from({ length: 64 }, () => 't'.repeat(128)),
  metadata: Buffer.from(JSON.stringify({ a: 'x'.repeat(16_376) })),
  eventId: undefined,
};
const SHORTEST: ValidEvent = {
  ...LONGEST,
  eventName: 'n',
  channel: 'web',
  userId: 'u',
  timestampMs: 1000,
  campaignId: '',
  tags: [],
  metadata: Buffer.alloc(0),
};

test('whole rows are read back by the table of schema.sql, column by column', async () => {
  const id = new Uint8Array(16).fill(7);
  const events = [
    ...fc.sample(event, tries<unknown>(300).numRuns ?? 300),
    { id, receivedAtUs: 1, row: LONGEST },
    { id, receivedAtUs: 2, row: SHORTEST },
  ];
  const bytes = encode(
    events,
    (sink, { id: eventId, receivedAtUs, row }) => encodeEvent(sink, row, eventId, receivedAtUs),
    events.length * ROW_MAX_BYTES,
  );
  // Of the columns as schema.sql has them, without the engine that would merge rows of one identity.
  const table = `${database}.rows_read_back`;
  await clickhouse.client.command({
    query: `CREATE TABLE ${table} ENGINE = Memory AS SELECT * FROM ${database}.events WHERE false`,
  });
  await insert(table, EVENT_COLUMNS, bytes);
  const shown = EVENT_COLUMNS.map((column) =>
    column === 'ts'
      ? 'toUnixTimestamp64Milli(ts) AS ms'
      : column === 'received_at'
        ? 'toUnixTimestamp64Micro(received_at) AS us'
        : column,
  );
  assert.deepEqual(
    await read(`SELECT ${shown.join(', ')} FROM ${table} SETTINGS max_threads = 1`),
    events.map(({ id: eventId, receivedAtUs, row }) => ({
      event_id: formatUuid(eventId),
      event_name: row.eventName,
      channel: row.channel,
      user_id: row.userId,
      ms: String(row.timestampMs),
      campaign_id: row.campaignId,
      tags: row.tags,
      metadata: Buffer.from(row.metadata).toString(),
      us: String(receivedAtUs),
    })),
  );
});

test('the table of the service takes any rows, whatever the month of their timestamps', async () => {
  const events = fc.sample(event, 200);
  const bytes = encode(
    events,
    (sink, { id, receivedAtUs, row }) => encodeEvent(sink, row, id, receivedAtUs),
    events.length * ROW_MAX_BYTES,
  );
  await clickhouse.client.command({ query: `TRUNCATE TABLE ${database}.events` });
  await insert(`${database}.events`, EVENT_COLUMNS, bytes);
  const [counted] = await read(`SELECT count() AS n FROM ${database}.events`);
  assert.ok(Number(counted?.['n']) >= new Set(events.map(({ id }) => formatUuid(id))).size);
});
