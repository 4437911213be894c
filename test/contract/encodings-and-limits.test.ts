import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import zlib from 'node:zlib';
import { assertAccepted, assertRefused, event, metrics, postBulk, postEvent } from '../support/requests.js';
import { Service } from '../support/service.js';
import { requestBytes, Wire } from '../support/wire.js';

/** api.md: content encodings, the body limit before and after decoding, the number of events, and large bodies at once. */

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.dispose());

const MIB = 1024 * 1024;
const LIMIT = 16 * MIB;
const HAS_ZSTD = 'zstdDecompressSync' in zlib;
/** An event for every encoding of this file, a few hundred bytes. */
const ONE = JSON.stringify(event({ metadata: { text: 'abc'.repeat(100) } }));

/** RFC 8878: magic, a head without content size, one raw block. */
function zstdFrame(content: string): Buffer {
  const bytes = Buffer.from(content);
  const blockHead = (bytes.length << 3) | 1;
  const head = [
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0x00,
    0x58,
    blockHead & 0xff,
    (blockHead >> 8) & 0xff,
    (blockHead >> 16) & 0xff,
  ];
  return Buffer.concat([Buffer.from(head), bytes]);
}

const encoders: Readonly<Record<string, (body: string | Uint8Array) => Buffer>> = {
  gzip: (body) => zlib.gzipSync(body),
  br: (body) => zlib.brotliCompressSync(body, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 3 } }),
  deflate: (body) => zlib.deflateSync(body),
};

const encoded = (encoding: string): Record<string, string> => ({ 'content-encoding': encoding });

async function total(eventName: string): Promise<number | undefined> {
  await service.settled();
  return (await metrics(service, { event_name: eventName })).body.total_events;
}

describe('Content-Encoding', () => {
  for (const [encoding, encode] of Object.entries(encoders)) {
    test(`${encoding} is decoded on both endpoints`, async () => {
      const plain = assertAccepted(await postEvent(service, ONE));
      assert.equal(assertAccepted(await postEvent(service, encode(ONE), encoded(encoding))), plain);
      assert.equal(assertAccepted(await postEvent(service, encode(ONE), encoded(encoding.toUpperCase()))), plain);
      const bulk = await postBulk(service, encode(`[${ONE}]`), encoded(encoding));
      assert.deepEqual(bulk.body.event_ids, [plain]);
      const lines = await postBulk(service, encode(`${ONE}\n{}\n${ONE}`), encoded(encoding));
      assert.deepEqual(lines.body.event_ids, [plain, null, plain]);
    });

    test(`${encoding} that is broken, cut short or empty is 400, and the next request is served`, async () => {
      const good = encode(ONE);
      const bad = [
        good.subarray(0, good.length - 5),
        good.subarray(0, 3),
        Buffer.alloc(0),
        Buffer.from(ONE),
        Buffer.from('\u0000'.repeat(100)),
      ];
      for (const body of bad) {
        assertRefused(await postEvent(service, body, encoded(encoding)), 400, 'validation_error');
        assertRefused(await postBulk(service, body, encoded(encoding)), 400, 'validation_error');
      }
      assertAccepted(await postEvent(service, good, encoded(encoding)));
    });
  }

  test('deflate may be raw', async () => {
    assertAccepted(await postEvent(service, zlib.deflateRawSync(ONE), encoded('deflate')));
    assert.equal((await postBulk(service, zlib.deflateRawSync(`[${ONE}]`), encoded('deflate'))).status, 202);
  });

  test('x-gzip is gzip, identity is nothing', async () => {
    assertAccepted(await postEvent(service, zlib.gzipSync(ONE), encoded('x-gzip')));
    assertAccepted(await postEvent(service, ONE, encoded('identity')));
  });

  test('gzip may come in several members and levels', async () => {
    const half = Math.floor(ONE.length / 2);
    const members = Buffer.concat([zlib.gzipSync(ONE.slice(0, half)), zlib.gzipSync(ONE.slice(half), { level: 0 })]);
    assertAccepted(await postEvent(service, members, encoded('gzip')));
  });

  test(`zstd is ${HAS_ZSTD ? 'decoded' : '415, where the runtime lacks it'}`, async () => {
    for (const answer of [
      await postEvent(service, zstdFrame(ONE), encoded('zstd')),
      await postBulk(service, zstdFrame(`[${ONE}]`), encoded('zstd')),
    ]) {
      if (HAS_ZSTD) assert.equal(answer.status, 202, answer.text);
      else assertRefused(answer, 415, 'unsupported_encoding');
    }
  });

  test('what is not known, or applied more than once, is 415', async () => {
    for (const encoding of ['compress', 'nonsense', 'gzip, gzip', 'gzip, br', 'gzip;q=1', 'utf-8', '*']) {
      assertRefused(await postEvent(service, ONE, encoded(encoding)), 415, 'unsupported_encoding');
      assertRefused(await postBulk(service, `[${ONE}]`, encoded(encoding)), 415, 'unsupported_encoding');
    }
  });
});

describe('the body limit of 16 MiB', () => {
  /** A bulk body of exactly `bytes`: few events and much white space, so that only the size is at the edge. */
  const padded = (bytes: number, name: string): Buffer => {
    const body = Buffer.alloc(bytes, 0x20);
    body.write(`[${JSON.stringify(event({ event_name: name }))}`);
    body.write(']', bytes - 1);
    return body;
  };
  const singlePadded = (bytes: number): Buffer => {
    const body = Buffer.alloc(bytes, 0x20);
    body.write(ONE.slice(0, -1));
    body.write('}', bytes - 1);
    return body;
  };

  test('is met by a bulk body of exactly that size, and passed by one byte more', async () => {
    assert.equal((await postBulk(service, padded(LIMIT, 'exact'))).body.accepted, 1);
    assertRefused(await postBulk(service, padded(LIMIT + 1, 'over')), 413, 'payload_too_large');
    assert.equal(await total('exact'), 1);
    assert.equal(await total('over'), 0);
  });

  test('holds for a single event too, around every size at which it changes its way', async () => {
    const id = assertAccepted(await postEvent(service, ONE));
    for (const bytes of [64 * 1024, MIB - 1, MIB, MIB + 1, 2 * MIB, LIMIT]) {
      assert.equal(assertAccepted(await postEvent(service, singlePadded(bytes))), id, String(bytes));
    }
    assertRefused(await postEvent(service, singlePadded(LIMIT + 1)), 413, 'payload_too_large');
    const refused = singlePadded(2 * MIB);
    refused.write('"', 2 * MIB - 1);
    assertRefused(await postEvent(service, refused), 400, 'validation_error');
  });

  for (const [encoding, encode] of Object.entries(encoders)) {
    test(`holds for ${encoding} as decoded, at the byte`, async () => {
      assert.equal(
        (await postBulk(service, encode(padded(LIMIT, `exact_${encoding}`)), encoded(encoding))).status,
        202,
      );
      assertRefused(
        await postBulk(service, encode(padded(LIMIT + 1, 'over')), encoded(encoding)),
        413,
        'payload_too_large',
      );
      assertRefused(
        await postEvent(service, encode(singlePadded(LIMIT + 1)), encoded(encoding)),
        413,
        'payload_too_large',
      );
    });

    test(`refuses a bomb in ${encoding} with 413, and serves others beside it`, async () => {
      const bomb = encode(Buffer.alloc(200 * MIB, 0x20));
      assert.ok(bomb.length < MIB, String(bomb.length));
      const bombs = Array.from({ length: 6 }, (_, i) =>
        (i % 2 === 0 ? postEvent : postBulk)(service, bomb, encoded(encoding)),
      );
      const others = Array.from({ length: 20 }, () => postEvent(service, ONE));
      for (const answer of await Promise.all(others)) assertAccepted(answer);
      for (const answer of await Promise.all(bombs)) assertRefused(answer, 413, 'payload_too_large');
    });
  }

  test('is known from the head alone, before the body comes', async () => {
    const wire = await Wire.connect(service.url);
    for (const path of ['/events', '/events/bulk']) {
      wire.write(requestBytes('POST', path, { headers: { 'Content-Length': String(LIMIT + 1) } }));
      const answer = await wire.answer();
      assert.equal(answer.status, 413);
      await wire.writeInPieces(Buffer.alloc(LIMIT + 1, 0x20), MIB);
      wire.write(requestBytes('GET', '/health'));
      assert.equal((await wire.answer()).status, 200);
    }
    await wire.end();
  });

  test('holds for a body of unknown length, which is refused when it passes', async () => {
    const wire = await Wire.connect(service.url);
    wire.write(requestBytes('POST', '/events/bulk', { headers: { 'Transfer-Encoding': 'chunked' } }));
    const chunk = Buffer.concat([Buffer.from(`${MIB.toString(16)}\r\n`), Buffer.alloc(MIB, 0x20), Buffer.from('\r\n')]);
    for (let i = 0; i < 17; i += 1) wire.write(chunk);
    assert.equal((await wire.answer()).status, 413);
    await wire.end();
    assertAccepted(await postEvent(service, ONE));
  });

  test('lets several bodies of that size come at once, each with its answer', async () => {
    const bodies = Array.from({ length: 6 }, (_, i) => padded(LIMIT, `at_once_${i}`));
    const answers = await Promise.all(bodies.map((body) => postBulk(service, body)));
    for (const answer of answers) {
      if (answer.status === 503) assertRefused(answer, 503, 'overloaded');
      else assert.equal(answer.status, 202, answer.text);
    }
    assert.ok(answers.some(({ status }) => status === 202));
    for (const [i, { status }] of answers.entries()) assert.equal(await total(`at_once_${i}`), status === 202 ? 1 : 0);
  });
});

describe('the limit of 10 000 events', () => {
  const write: Readonly<Record<string, (events: readonly string[]) => string>> = {
    object: (events) => `{"events":[${events.join(',')}]}`,
    array: (events) => `[${events.join(',')}]`,
    ndjson: (events) => events.join('\n'),
  };
  for (const [form, make] of Object.entries(write)) {
    test(`is met by 10 000 in the form ${form}; of 10 001 nothing is taken`, async () => {
      const events = Array.from({ length: 10_001 }, (_, i) =>
        JSON.stringify(event({ event_name: `count_${form}`, user_id: `u${i}` })),
      );
      assertRefused(await postBulk(service, make(events)), 413, 'payload_too_large');
      assert.equal(await total(`count_${form}`), 0);
      const answer = await postBulk(service, make(events.slice(0, 10_000)));
      assert.equal(answer.body.accepted, 10_000);
      assert.equal(await total(`count_${form}`), 10_000);
    });
  }

  test('counts refused events too', async () => {
    assertRefused(
      await postBulk(service, `[${Array.from({ length: 10_001 }, () => '{}').join(',')}]`),
      413,
      'payload_too_large',
    );
  });
});

describe('large bodies', () => {
  /** As many events as fit, each with much metadata: about 15 MiB. */
  const heavy = (name: string, count: number): string =>
    `[${Array.from({ length: count }, (_, i) =>
      JSON.stringify(event({ event_name: name, user_id: `u${i}`, metadata: { text: `${i}`.padEnd(1400, 'x') } })),
    ).join(',')}]`;

  test('of many full events are taken whole, several at once', async () => {
    const names = ['heavy_a', 'heavy_b', 'heavy_c', 'heavy_d'];
    const answers = await Promise.all(
      names.map((name) => postBulk(service, heavy(name, 10_000), { prefer: 'return=minimal' })),
    );
    for (const answer of answers) assert.equal(answer.body.accepted, 10_000, answer.text);
    for (const name of names) assert.equal(await total(name), 10_000);
  });
});
