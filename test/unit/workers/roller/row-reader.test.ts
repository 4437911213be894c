import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import type { ClickHouseClient } from '@clickhouse/client';
import { RowMemory, RowReader } from '../../../../src/workers/roller/row-reader.js';

/** An event as ClickHouse would send it: the words of its id and of its user's hash are all the same. */
interface Row {
  readonly eventName: string;
  readonly channel: string;
  readonly timestamp: number;
  readonly id: number;
  readonly user: number;
}

const words = (word: number): Buffer => Buffer.from(Uint32Array.of(word, word, word, word).buffer);

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

const text = (value: string): Buffer => Buffer.concat([Buffer.of(Buffer.byteLength(value)), Buffer.from(value)]);

/** `wide`: numbers of two bytes. */
function numbered(values: readonly string[], wide: boolean): Buffer {
  const list = ['', ...new Set(values)];
  const numbers = values.map((value) => list.indexOf(value, 1));
  return Buffer.concat([
    uint64(1),
    uint64(wide ? 0x601 : 0x600),
    uint64(list.length),
    ...list.map(text),
    uint64(values.length),
    wide ? Buffer.from(Uint16Array.from(numbers).buffer) : Buffer.from(numbers),
  ]);
}

function block(rows: readonly Row[], wide = false): Buffer {
  const columns: [string, Buffer][] = [
    [
      'LowCardinality(String)',
      numbered(
        rows.map(({ eventName }) => eventName),
        wide,
      ),
    ],
    [
      'LowCardinality(String)',
      numbered(
        rows.map(({ channel }) => channel),
        wide,
      ),
    ],
    ['Int64', Buffer.concat(rows.map(({ timestamp }) => uint64(timestamp)))],
    ['UUID', Buffer.concat(rows.map(({ id }) => words(id)))],
    ['FixedString(16)', Buffer.concat(rows.map(({ user }) => words(user)))],
  ];
  const bodies = columns.flatMap(([type, values]) => [text('c'), text(type), rows.length === 0 ? Buffer.of() : values]);
  return Buffer.concat([Buffer.of(columns.length, rows.length), ...bodies]);
}

async function read(reader: RowReader, bytes: Buffer, memory = new RowMemory()): Promise<Row[]> {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 7) chunks.push(bytes.subarray(at, at + 7));
  const client = { exec: () => Promise.resolve({ stream: Readable.from(chunks) }) } as unknown as ClickHouseClient;
  const groups = await reader.read(client, 'SELECT', memory, new AbortController().signal);
  return groups.flatMap(({ eventName, channel, count, timestamps, eventIds, users }) =>
    Array.from({ length: count }, (_, i) => {
      assert.deepEqual(new Set(eventIds.subarray(i * 4, i * 4 + 4)).size, 1);
      const [id = -1, user = -1] = [eventIds[i * 4], users[i * 4 + 3]];
      return { eventName, channel, timestamp: timestamps[i] ?? -1, id, user };
    }),
  );
}

const at = 1_795_953_736_620;
const first: Row[] = [
  { eventName: 'view', channel: 'web', timestamp: at, id: 0xffffffff, user: 7 },
  { eventName: 'view', channel: 'api', timestamp: at + 1, id: 2, user: 8 },
  { eventName: 'buy', channel: 'web', timestamp: at + 2, id: 3, user: 7 },
];
const second: Row[] = [
  { eventName: 'buy', channel: 'web', timestamp: 0, id: 4, user: 9 },
  { eventName: 'größer', channel: '', timestamp: at + 4, id: 5, user: 10 },
  { eventName: 'view', channel: 'web', timestamp: at + 5, id: 6, user: 11 },
];

test('rows are sorted out by event name and channel across blocks, in their order', async () => {
  const reader = new RowReader();
  const bytes = Buffer.concat([block([]), block(first), block(second, true), block([])]);
  const rows = await read(reader, bytes);
  const [a, b, c] = first;
  const [d, e, f] = second;
  assert.deepEqual(rows, [a, f, b, c, d, e]);
  // Memory that held other rows before.
  assert.deepEqual(await read(reader, block(second)), second);
  assert.deepEqual(await read(reader, Buffer.of()), []);
});

test('an answer that ends early, or has other columns, is not taken for fewer rows', async () => {
  const bytes = block(first);
  for (let length = 1; length < bytes.length; length += 1) {
    await assert.rejects(read(new RowReader(), bytes.subarray(0, length)), /ends within a block|where/);
  }
  await assert.rejects(read(new RowReader(), Buffer.concat([bytes, Buffer.from('\r\n__exception__')])), /columns/);
  const other = Buffer.from(bytes.toString('latin1').replace('UUID', 'Uuid'), 'latin1');
  await assert.rejects(read(new RowReader(), other), /type Uuid where UUID/);
});
