/**
 * What the encoder's steps cost, one by one, in this process and without sockets: an event in one pass and the readable way,
 * validators, the derived id, the ring, whole bulk bodies. The cost of a commit is in wal-commit.js.
 *
 * Each step is run by tinybench in samples of some milliseconds, all steps in turn, so that a noisy moment is noisy for all of them.
 * Usage: node bench/micro.js [--runs N] [--only TEXT] [--out PATH]
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Bench } from 'tinybench';
import { eventTexts } from './generator/payload.js';
import { machine, QUIET_LOAD, versions } from './harness/machine.js';
import { median, mediansOf, resultPath, tableText, writeResult } from './harness/report.js';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '25' },
    only: { type: 'string', default: '' },
    out: { type: 'string', default: fileURLToPath(new URL('./results/micro.json', import.meta.url)) },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(
    'node bench/micro.js [--runs N] [--only TEXT] [--out PATH]\nns a step; --only takes the steps with TEXT in their name. Needs a build: npm run build.',
  );
  process.exit(0);
}

const { Compile } = await import('../dist/src/shared/typebox.js');
const { DEFAULT_CHANNELS, eventSchema, UUID_PATTERN } = await import('../dist/src/shared/event-schema.js');
const { EVENT_LIMITS } = await import('../dist/src/shared/limits.js');
const { createForgottenUsers, ForgottenUsers } = await import('../dist/src/shared/forgotten-users.js');
const { createRing, RingConsumer, RingProducer } = await import('../dist/src/shared/ring.js');
const { Sink } = await import('../dist/src/shared/rowbinary.js');
const { BulkJob } = await import('../dist/src/workers/encoder/bulk-job.js');
const { BulkText } = await import('../dist/src/workers/encoder/bulk-text.js');
const { IdList } = await import('../dist/src/workers/encoder/id-list.js');
const { UNENDED } = await import('../dist/src/workers/encoder/json-text.js');
const { EventEncoder } = await import('../dist/src/workers/encoder/event-encoder.js');
const { deriveEventId } = await import('../dist/src/workers/encoder/event-id.js');

const SAMPLE_MS = 8;
const WARM_UP_MS = 150;
const EVENTS = 1000;
const ARRIVAL_US = 1_764_000_000_000_000;
const OPTIONS = { channels: DEFAULT_CHANNELS, futureToleranceS: 60 };
const SECONDS = 1_763_999_000;

/** As in the service: bodies and rows stand in memory that threads share. */
function shared(bytes) {
  const copy = Buffer.from(new SharedArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}

/** Events of the load generator, each another one. */
function linesOf(payload, count) {
  const texts = eventTexts(payload, 'micro');
  return Array.from({ length: count }, (_, index) =>
    texts[index % texts.length]
      .replaceAll(/N+(?=")/g, (digits) => String(index).padStart(digits.length, '0'))
      .replaceAll(/U{7}/g, (digits) => String(index).padStart(digits.length, '0'))
      .replaceAll(/T{10}/g, String(SECONDS)),
  );
}

const encoder = new EventEncoder(OPTIONS, new ForgottenUsers(createForgottenUsers()));
const sink = new Sink(Buffer.from(new SharedArrayBuffer(16 * 1024 * 1024)));
const ids = new IdList();

/** An operation an event, over a thousand different ones that stand behind one another. */
function eachEvent(payload, work) {
  const lines = linesOf(payload, EVENTS).map((line) => Buffer.from(line));
  const body = shared(Buffer.concat(lines));
  const ends = [];
  for (let i = 0, at = 0; i < EVENTS; i += 1) ends.push((at += lines[i].length));
  return {
    operations: EVENTS,
    run: () => {
      let start = 0;
      for (let i = 0; i < EVENTS; i += 1) {
        work(body, start, ends[i]);
        start = ends[i];
      }
    },
  };
}

function oneEvent(payload, way) {
  return eachEvent(payload, (body, start, end) => {
    sink.at = 0;
    encoder[way](body, start, end, ARRIVAL_US, '', sink);
    if (sink.at === 0) throw new Error('an event was refused');
  });
}

function validator(check) {
  const events = linesOf('seed', EVENTS).map((line) => JSON.parse(line));
  return {
    operations: EVENTS,
    run: () => {
      for (let i = 0; i < EVENTS; i += 1) if (!check(events[i])) throw new Error('an event was refused');
    },
  };
}

/** For the same schema, with Fastify's settings. */
async function ajv() {
  const { Ajv } = await import('ajv');
  const options = { coerceTypes: 'array', useDefaults: true, removeAdditional: true, allErrors: false, strict: false };
  const check = new Ajv(options).compile(JSON.parse(JSON.stringify(eventSchema(DEFAULT_CHANNELS))));
  return validator((event) => check(event));
}

function typebox() {
  const compiled = Compile(eventSchema(DEFAULT_CHANNELS));
  return validator((event) => compiled.Check(event));
}

/** The library's earlier line, which has types of its own: the same schema again. */
async function sinclairTypebox() {
  const { Type } = await import('@sinclair/typebox');
  const { TypeCompiler } = await import('@sinclair/typebox/compiler');
  const { eventNameMaxBytes, userIdMaxBytes, campaignIdMaxBytes, tagsMax, tagMaxBytes } = EVENT_LIMITS;
  const text = (maxLength) => Type.String({ minLength: 1, maxLength });
  const optional = (schema) => Type.Optional(Type.Union([schema, Type.Null()]));
  const schema = Type.Object(
    {
      event_name: text(eventNameMaxBytes),
      channel: Type.Union(DEFAULT_CHANNELS.map((channel) => Type.Literal(channel))),
      user_id: text(userIdMaxBytes),
      timestamp: Type.Integer({ exclusiveMinimum: 0 }),
      campaign_id: optional(Type.String({ maxLength: campaignIdMaxBytes })),
      tags: optional(Type.Array(text(tagMaxBytes), { maxItems: tagsMax })),
      metadata: optional(Type.Object({}, { additionalProperties: true })),
      event_id: Type.Optional(Type.String({ pattern: UUID_PATTERN })),
    },
    { additionalProperties: false },
  );
  const compiled = TypeCompiler.Compile(schema);
  return validator((event) => compiled.Check(event));
}

function derivedId() {
  const [line] = linesOf('seed', 1);
  const { event_name: eventName, user_id: userId, campaign_id: campaignId, ...rest } = JSON.parse(line);
  const event = {
    ...rest,
    eventName,
    userId,
    campaignId,
    timestampMs: rest.timestamp * 1000,
    metadata: Buffer.from(JSON.stringify(rest.metadata)),
  };
  const scratch = new Sink(Buffer.alloc(4096));
  return {
    operations: EVENTS,
    run: () => {
      for (let i = 0; i < EVENTS; i += 1) deriveEventId(event, scratch);
    },
  };
}

/** A record of an event's size written, shown, read and released, one at a time. */
function ring() {
  const memory = createRing(4 * 1024 * 1024);
  const producer = new RingProducer(memory);
  const consumer = new RingConsumer(memory);
  const body = Buffer.alloc(257, 0x20);
  return {
    operations: EVENTS,
    run: () => {
      for (let i = 0; i < EVENTS; i += 1) {
        const at = producer.reserve(body.length);
        producer.bytes.set(body, at);
        producer.commit(body.length);
        producer.publish();
        if (!consumer.next()) throw new Error('a record is missing');
        consumer.release();
      }
    },
  };
}

const FORMS = {
  ndjson: (lines) => lines.join('\n'),
  object: (lines) => `{"events":[${lines.join(',')}]}`,
};

function split(form) {
  const body = shared(Buffer.from(FORMS[form](linesOf('seed', EVENTS))));
  return {
    operations: EVENTS,
    run: () => {
      const text = new BulkText(body, 0, body.length, form === 'ndjson');
      let events = 0;
      while (text.next() === 'event' && (text.end !== UNENDED || text.findEnd())) events += 1;
      if (events !== EVENTS) throw new Error('events are missing');
    },
  };
}

function bulk(form, payload, minimal) {
  const body = shared(Buffer.from(FORMS[form](linesOf(payload, EVENTS))));
  const options = { ndjson: form === 'ndjson', minimal, maxEvents: EVENTS, arrivalUs: ARRIVAL_US };
  return {
    operations: EVENTS,
    run: () => {
      const job = new BulkJob(body, options, encoder, sink, ids);
      while (!job.work(256));
      if (job.accepted !== EVENTS) throw new Error('an event was refused');
      job.answer();
    },
  };
}

/** What is measured, by its label; all are ns an event. */
const STEPS = {
  'one event in one pass, README’s': () => oneEvent('seed', 'encode'),
  'one event in one pass, small with its id': () => oneEvent('small', 'encode'),
  'one event in one pass, 4 KiB': () => oneEvent('large', 'encode'),
  'one event the readable way (JSON.parse, TypeBox)': () => oneEvent('seed', 'encodeReadably'),
  'of the readable way: text to JSON.parse': () =>
    eachEvent('seed', (body, start, end) => JSON.parse(body.toString('utf8', start, end))),
  'of the readable way: the derived id': derivedId,
  'validator: TypeBox, compiled': typebox,
  'validator: @sinclair/typebox, compiled': sinclairTypebox,
  'validator: Ajv, compiled': ajv,
  'ring: a record written and read': ring,
  'bulk of 1 000: splitting NDJSON': () => split('ndjson'),
  'bulk of 1 000: finding the ends in {"events":[…]}': () => split('object'),
  'bulk of 1 000: NDJSON, return=minimal': () => bulk('ndjson', 'seed', true),
  'bulk of 1 000: NDJSON, with ids': () => bulk('ndjson', 'seed', false),
  'bulk of 1 000: {"events":[…]}, with ids': () => bulk('object', 'seed', false),
  'bulk of 1 000: NDJSON of all sizes, return=minimal': () => bulk('ndjson', 'mixed', true),
};

/** ns an event, over so many ms. */
function measure({ label, operations, run }, ms) {
  const bench = new Bench({ time: ms, iterations: 1, warmup: false, throws: true });
  bench.add(label, run);
  bench.runSync();
  return (bench.tasks[0].result.latency.mean * 1e6) / operations;
}

const startedAt = new Date();
const where = machine(fileURLToPath(new URL('../data', import.meta.url)));
if (where.loadBefore > QUIET_LOAD)
  console.error(`others are at work here (load ${where.loadBefore}): these figures are not worth keeping`);
const steps = [];
for (const [label, make] of Object.entries(STEPS)) {
  if (label.includes(values.only)) steps.push({ label, ...(await make()) });
}
for (const step of steps) measure(step, WARM_UP_MS);
const samples = [];
for (let run = 1; run <= Number(values.runs); run += 1) {
  for (const step of steps) samples.push({ label: step.label, run, nsPerEvent: measure(step, SAMPLE_MS) });
}

const rows = steps.map(({ label }) => {
  const ns = samples.filter((sample) => sample.label === label).map((sample) => sample.nsPerEvent);
  return [label, median(ns).toFixed(0), Math.min(...ns).toFixed(0), Math.max(...ns).toFixed(0)];
});
console.log(tableText(['ns an event', 'median', 'least', 'most'], rows));
const path = resultPath({ out: values.out, mode: 'micro' }, startedAt, versions().commit);
writeResult(path, {
  format: 1,
  mode: 'micro',
  startedAt: startedAt.toISOString(),
  command: `node bench/micro.js ${process.argv.slice(2).join(' ')}`.trim(),
  machine: where,
  ...versions(),
  medians: mediansOf(samples),
  samples,
});
console.log(path);
