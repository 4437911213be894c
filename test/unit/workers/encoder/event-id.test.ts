import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { UUID_PATTERN } from '../../../../src/shared/event-schema.js';
import { Sink } from '../../../../src/shared/rowbinary.js';
import { EventEncoder } from '../../../../src/workers/encoder/event-encoder.js';
import {
  deriveEventId,
  formatUuid,
  parseUuid,
  UUID_CHARS,
  writeUuidText,
} from '../../../../src/workers/encoder/event-id.js';
import { EventFault } from '../../../../src/workers/encoder/validate.js';
import { anyEvent, type EventFields, layOut } from '../../../support/event-text.js';
import { tries } from '../../../support/property.js';
import { temporaryDirectory } from '../../../support/wal.js';

const ARRIVAL_US = 1_800_000_000_000_000;
const encoder = new EventEncoder({ channels: ['web', 'mobile', 'api', 'email', 'push'], futureToleranceS: 60 });
const sink = new Sink(Buffer.alloc(1024 * 1024));

function idOf(text: string | Buffer): string {
  sink.at = 0;
  const bytes = Buffer.from(text);
  const outcome = encoder.encode(bytes, 0, bytes.length, ARRIVAL_US, '', sink);
  if (outcome instanceof EventFault) assert.fail(`${outcome.error}: ${bytes.toString()}`);
  return formatUuid(outcome);
}

/** The canonical form as docs/event-id.md tells it, from the fields that a parsed event has and its metadata's text. */
function canonical(event: EventFields, metadataText: string): Buffer {
  const u32 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  };
  const field = (text: string): Buffer => Buffer.concat([u32(Buffer.byteLength(text)), Buffer.from(text)]);
  const timestamp = Buffer.alloc(8);
  timestamp.writeBigInt64LE(BigInt(event.timestamp) * (event.timestamp >= 1e11 ? 1n : 1000n));
  const tags = event.tags ?? [];
  return Buffer.concat([
    Buffer.from([1]),
    ...[event.event_name, event.channel, event.user_id, event.campaign_id ?? ''].map(field),
    timestamp,
    u32(tags.length),
    ...tags.map(field),
    field(metadataText),
  ]);
}

/** XXH3-128 of files by Debian's xxhsum, as hexadecimal; undefined where the program is not installed. */
function xxh128(files: readonly string[]): string[] | undefined {
  const { error, stdout, status } = spawnSync('xxhsum', ['-H2', ...files], { encoding: 'utf8' });
  if (error !== undefined && 'code' in error && error.code === 'ENOENT') return undefined;
  assert.equal(status, 0);
  return stdout
    .trim()
    .split('\n')
    .map((line) => line.slice(0, 32));
}

function uuidOfHash(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  bytes[6] = 0x80 | ((bytes[6] ?? 0) % 16);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) % 64);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

interface Vector {
  readonly name: string;
  /** JSON text of the event, byte for byte. */
  readonly event: string;
  readonly canonical: string;
  readonly event_id: string;
}

function publishedVectors(): Vector[] {
  const doc = readFileSync(new URL('../../../../../docs/event-id.md', import.meta.url), 'utf8');
  const vectors: Vector[] = [];
  for (const [, name = '', body = ''] of doc.matchAll(/^### (.+)\n([^#]*)/gm)) {
    const [event, form] = [...body.matchAll(/```(?:json|hex)\n([\s\S]*?)\n```/g)].map(([, block]) => block ?? '');
    const id = /`event_id` `([0-9a-f-]{36})`/.exec(body)?.[1];
    if (event === undefined || form === undefined || id === undefined)
      assert.fail(`the vector "${name}" is not complete`);
    vectors.push({ name, event, canonical: form.replaceAll(/\s/g, ''), event_id: id });
  }
  return vectors;
}

test('every published vector has the id that is published', () => {
  const vectors = publishedVectors();
  assert.ok(vectors.length >= 8);
  for (const { name, event, event_id } of vectors) assert.equal(idOf(event), event_id, name);
});

test('every published canonical form is that of its event, and xxhsum hashes it to the published id', (t) => {
  const vectors = publishedVectors();
  const directory = temporaryDirectory(t);
  const files = vectors.map((vector, index) => {
    const event = JSON.parse(vector.event) as EventFields;
    // In the vectors, metadata is laid out as JSON.stringify would.
    const metadata = event.metadata === undefined || event.metadata === null ? '' : metadataOf(vector.event);
    const bytes = canonical(event, metadata);
    assert.equal(bytes.toString('hex'), vector.canonical, vector.name);
    const file = join(directory, String(index));
    writeFileSync(file, Buffer.from(vector.canonical, 'hex'));
    return file;
  });
  const hashes = xxh128(files);
  if (hashes === undefined) {
    t.skip('NOT RUN: xxhsum is not installed (Debian package xxhash)');
    return;
  }
  vectors.forEach(({ name, event_id }, index) => assert.equal(uuidOfHash(hashes[index] ?? ''), event_id, name));
});

/** The text of an event's last member, metadata, without white space outside strings. */
function metadataOf(text: string): string {
  const from = text.indexOf('{', text.lastIndexOf('"metadata"'));
  return text.slice(from, text.lastIndexOf('}')).replaceAll(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
}

test('the id of any event is the hash that xxhsum makes of its canonical form', (t) => {
  const directory = temporaryDirectory(t);
  const events = fc.sample(anyEvent, tries<unknown>(200).numRuns ?? 200);
  const files = events.map((event, index) => {
    const file = join(directory, String(index));
    const metadata = event.metadata === undefined || event.metadata === null ? '' : JSON.stringify(event.metadata);
    writeFileSync(file, canonical(event, metadata));
    return file;
  });
  const hashes = xxh128(files);
  if (hashes === undefined) {
    t.skip('NOT RUN: xxhsum is not installed (Debian package xxhash)');
    return;
  }
  events.forEach((event, index) =>
    assert.equal(idOf(JSON.stringify(event)), uuidOfHash(hashes[index] ?? ''), JSON.stringify(event)),
  );
});

test('the id does not depend on layout: order of members, white space, escapes in strings, spelling of the timestamp', () => {
  fc.assert(
    fc.property(anyEvent, fc.infiniteStream(fc.nat()), (event, choices) => {
      assert.equal(idOf(layOut(event, choices)), idOf(JSON.stringify(event)));
    }),
    tries(300),
  );
});

test('absent, null and empty are the same', () => {
  const event = { event_name: 'a', channel: 'web', user_id: 'u', timestamp: 1_723_475_612 };
  const id = idOf(JSON.stringify(event));
  for (const more of [{ campaign_id: null }, { campaign_id: '' }, { tags: null }, { tags: [] }, { metadata: null }]) {
    assert.equal(idOf(JSON.stringify({ ...event, ...more })), id, JSON.stringify(more));
  }
  assert.notEqual(idOf(JSON.stringify({ ...event, metadata: {} })), id);
  assert.equal(idOf(JSON.stringify({ ...event, timestamp: event.timestamp * 1000 })), id);
});

test('the id differs where any field does, also where text only moves from one field to the next', () => {
  const ids = new Map<string, string>();
  fc.assert(
    fc.property(anyEvent, fc.string({ minLength: 1, maxLength: 3, unit: 'grapheme-ascii' }), (event, text) => {
      const { event_name: name, user_id: user } = event;
      // Room for what is added below.
      fc.pre(
        name.length < 30 && user.length < 60 && (event.campaign_id ?? '').length < 60 && (event.tags ?? []).length < 60,
      );
      const variants: EventFields[] = [
        event,
        { ...event, event_name: `${name}x` },
        { ...event, user_id: `${user}x` },
        { ...event, event_name: name + text, user_id: user },
        { ...event, event_name: name, user_id: text + user },
        { ...event, channel: event.channel === 'web' ? 'api' : 'web' },
        { ...event, timestamp: event.timestamp + 1 },
        { ...event, campaign_id: `${event.campaign_id ?? ''}x` },
        { ...event, tags: [...(event.tags ?? []), 'x'] },
        { ...event, tags: ['x', ...(event.tags ?? [])] },
        { ...event, metadata: { ...event.metadata, x: text } },
      ];
      for (const variant of variants) {
        const metadata =
          variant.metadata === undefined || variant.metadata === null ? '' : JSON.stringify(variant.metadata);
        const form = canonical(variant, metadata).toString('hex');
        const id = idOf(JSON.stringify(variant));
        assert.equal(ids.get(id) ?? form, form);
        ids.set(id, form);
      }
      assert.equal(new Set(ids.values()).size, ids.size);
    }),
    tries(100),
  );
});

test('order of members and spelling of numbers within metadata count, white space does not', () => {
  const event = (metadata: string): string =>
    `{"event_name":"a","channel":"web","user_id":"u","timestamp":1,"metadata":${metadata}}`;
  const id = idOf(event('{"a":1,"b":"x y"}'));
  assert.equal(idOf(event(' {\t"a" : 1 ,\r\n"b": "x y" } ')), id);
  for (const other of ['{"b":"x y","a":1}', '{"a":1.0,"b":"x y"}', '{"a":1,"b":"xy"}', '{"a":1,"b":"x\\u0020y"}']) {
    assert.notEqual(idOf(event(other)), id, other);
  }
});

test('every id is a UUID of version 8 and survives its text', () => {
  const scratch = new Sink(Buffer.alloc(4096));
  fc.assert(
    fc.property(fc.string(), fc.nat(), (eventName, timestampMs) => {
      const event = {
        eventName,
        channel: 'web',
        userId: 'u',
        campaignId: '',
        timestampMs,
        tags: [],
        metadata: new Uint8Array(0),
      };
      const id = Uint8Array.from(deriveEventId(event, scratch));
      const text = formatUuid(id);
      assert.match(text, new RegExp(UUID_PATTERN));
      assert.match(text, /^.{14}8.{4}[89ab]/);
      assert.deepEqual(parseUuid(text), id);
      const bytes = Buffer.alloc(UUID_CHARS + 2, '.');
      writeUuidText(id, bytes, 1);
      assert.equal(bytes.toString(), `.${text}.`);
      assert.deepEqual(parseUuid(text.toUpperCase()), id);
    }),
    tries(100),
  );
});
