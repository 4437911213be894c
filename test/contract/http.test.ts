import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  type Answered,
  assertAccepted,
  assertInvalid,
  assertRefused,
  event,
  metrics,
  postEvent,
  send,
} from '../support/requests.js';
import { Service, until } from '../support/service.js';
import { chunked, requestBytes, Wire, type WireAnswer } from '../support/wire.js';

/** api.md, "Listeners" and the statuses of "POST /events", on the wire: methods, bodies in any shape, connections. */

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.dispose());

const VALID = JSON.stringify(event());

/** What `assert…` in support/requests.ts look at. */
function answered({ status, headers, body }: WireAnswer): Answered {
  const text = body.toString();
  return { status, headers: new Headers([...headers]), text, body: JSON.parse(text) as Answered['body'] };
}

async function onWire<T>(work: (wire: Wire) => Promise<T>, url = service.url): Promise<T> {
  const wire = await Wire.connect(url);
  try {
    return await work(wire);
  } finally {
    await wire.end();
  }
}

describe('paths and methods', () => {
  const paths: Readonly<Record<string, readonly string[]>> = {
    '/events': ['POST'],
    '/events/bulk': ['POST'],
    '/metrics': ['GET', 'HEAD'],
    '/health': ['GET', 'HEAD'],
    '/ready': ['GET', 'HEAD'],
    '/healthz': ['GET', 'HEAD'],
    '/livez': ['GET', 'HEAD'],
    '/readyz': ['GET', 'HEAD'],
    '/docs': ['GET', 'HEAD'],
    '/openapi.json': ['GET', 'HEAD'],
  };
  for (const [path, allowed] of Object.entries(paths)) {
    test(`${path} has ${allowed.join(', ')} and answers 405 with Allow to the rest`, async () => {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
        if (allowed.includes(method)) continue;
        const answer = await send(service.url + path, { method, ...(method === 'POST' ? { body: VALID } : {}) });
        assertRefused(answer, 405, 'method_not_allowed');
        assert.deepEqual(answer.headers.get('allow')?.split(', '), allowed);
      }
    });
  }

  test('the admin listener has /metrics, /health and /ready for GET and HEAD', async () => {
    for (const path of ['/metrics', '/health', '/ready']) {
      assert.equal((await send(service.adminUrl + path)).status, 200);
      const answer = await send(service.adminUrl + path, { method: 'POST', body: VALID });
      assertRefused(answer, 405, 'method_not_allowed');
      assert.equal(answer.headers.get('allow'), 'GET, HEAD');
    }
  });

  test('what is not there is 404 on both listeners, under any method', async () => {
    for (const path of [
      '/',
      '/event',
      '/events/',
      '/events/bulk/',
      '/events/1',
      '/EVENTS',
      '/metrics/x',
      '/..',
      '/%00',
      '/a%ff',
    ]) {
      for (const method of ['GET', 'POST', 'DELETE']) {
        assertRefused(await send(service.url + path, { method }), 404, 'not_found');
      }
    }
    assertRefused(await send(`${service.adminUrl}/events`, { method: 'POST', body: VALID }), 404, 'not_found');
    assertRefused(await send(`${service.adminUrl}/docs`), 404, 'not_found');
  });

  test('HEAD has the head of GET and no body, and the connection goes on', async () => {
    for (const url of [service.url, service.adminUrl]) {
      const asked = [
        '/health',
        '/ready',
        '/healthz',
        '/livez',
        '/readyz',
        '/metrics?event_name=a',
        '/metrics',
        '/docs',
        '/openapi.json',
        '/docs/swagger-ui-bundle.js',
        '/nothing',
        '/events',
      ];
      for (const path of asked) {
        await onWire(async (wire) => {
          wire.write(requestBytes('HEAD', path));
          const head = await wire.answer({ bodiless: true });
          wire.write(requestBytes('GET', path));
          const get = await wire.answer();
          assert.equal(head.status, get.status, path);
          assert.equal(head.headers.get('content-type'), get.headers.get('content-type'), path);
          if (!path.startsWith('/metrics'))
            assert.equal(head.headers.get('content-length'), String(get.body.length), path);
        }, url);
      }
    }
  });

  test('a query on /events changes nothing', async () => {
    assertAccepted(await send(`${service.url}/events?a=b`, { method: 'POST', body: VALID }));
  });
});

describe('bodies', () => {
  test('may come chunked, in chunks of any size', async () => {
    for (const size of [1, 7, 64, 10_000]) {
      await onWire(async (wire) => {
        wire.write(
          requestBytes('POST', '/events', { headers: { 'Transfer-Encoding': 'chunked' }, body: chunked(VALID, size) }),
        );
        assertAccepted(answered(await wire.answer()));
        wire.write(requestBytes('GET', '/health'));
        assert.equal((await wire.answer()).status, 200);
      });
    }
  });

  test('may come in many small pieces, head and all', async () => {
    const bytes = requestBytes('POST', '/events', {
      body: JSON.stringify(event({ metadata: { k: 'é😀'.repeat(50) } })),
    });
    const inChunks = requestBytes('POST', '/events', {
      headers: { 'Transfer-Encoding': 'chunked' },
      body: chunked(VALID, 5),
    });
    // The request line in one piece: uWebSockets.js answers 505 where a segment ends inside its ` HTTP/1.1`.
    const lineEnd = bytes.indexOf('\n') + 1;
    for (const size of [1, 3, 100]) {
      for (const request of [bytes, inChunks]) {
        await onWire(async (wire) => {
          wire.write(request.subarray(0, lineEnd));
          await wire.writeInPieces(request.subarray(lineEnd), size);
          assertAccepted(answered(await wire.answer()));
        });
      }
    }
  });

  test('that are empty are refused, announced or not', async () => {
    await onWire(async (wire) => {
      for (const path of ['/events', '/events/bulk']) {
        wire.write(requestBytes('POST', path));
        assertRefused(answered(await wire.answer()), 400, 'validation_error');
        wire.write(requestBytes('POST', path, { body: '' }));
        assertRefused(answered(await wire.answer()), 400, 'validation_error');
        wire.write(requestBytes('POST', path, { headers: { 'Transfer-Encoding': 'chunked' }, body: chunked('', 1) }));
        assertRefused(answered(await wire.answer()), 400, 'validation_error');
      }
    });
  });

  test('a transfer coding other than chunked is refused', async () => {
    await onWire(async (wire) => {
      wire.write(
        requestBytes('POST', '/events', {
          headers: { 'Transfer-Encoding': 'gzip, chunked' },
          body: chunked(VALID, 50),
        }),
      );
      // The server may also close on what it cannot delimit; it must not take it for an event.
      const answer = await wire.answer().catch(() => undefined);
      if (answer !== undefined) assert.ok(answer.status >= 400 && answer.status < 500, String(answer.status));
    });
  });

  test('what is no HTTP harms nobody', async () => {
    for (const bytes of [
      '\r\n\r\n',
      'nonsense\r\n\r\n',
      'GET\r\n\r\n',
      'POST /events HTTP/1.1\r\nContent-Length: -1\r\n\r\n',
      'POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\n{}',
      '\u0016\u0003\u0001',
    ]) {
      await onWire(async (wire) => {
        wire.write(bytes);
        await wire.sip();
      });
    }
    assertAccepted(await postEvent(service, VALID));
  });
});

describe('connections', () => {
  test('one connection carries many requests, the refused ones among them', async () => {
    await onWire(async (wire) => {
      const ids = new Set<string>();
      for (let i = 0; i < 300; i += 1) {
        wire.write(
          requestBytes('POST', '/events', {
            body: JSON.stringify(event({ event_name: 'one_connection', user_id: `u${i}` })),
          }),
        );
        ids.add(assertAccepted(answered(await wire.answer())));
        if (i % 10 !== 0) continue;
        wire.write(requestBytes('POST', '/events', { body: '{"event_name":1}' }));
        assertInvalid(answered(await wire.answer()), '/event_name');
        wire.write(requestBytes('POST', '/events', { headers: { 'Content-Encoding': 'nonsense' }, body: VALID }));
        assertRefused(answered(await wire.answer()), 415, 'unsupported_encoding');
        wire.write(requestBytes('PUT', '/events', { body: VALID }));
        assertRefused(answered(await wire.answer()), 405, 'method_not_allowed');
        wire.write(requestBytes('POST', '/nowhere', { body: VALID }));
        assertRefused(answered(await wire.answer()), 404, 'not_found');
        wire.write(requestBytes('GET', '/metrics?nonsense=1'));
        assertRefused(answered(await wire.answer()), 400, 'validation_error');
      }
      assert.equal(ids.size, 300);
    });
    await service.settled();
    assert.equal((await metrics(service, { event_name: 'one_connection' })).body.total_events, 300);
  });

  test('a body that is refused before it is read does not become the next request', async () => {
    // What would be taken for a request, were the refused body not skipped.
    const smuggled = requestBytes('POST', '/events', {
      body: JSON.stringify(event({ event_name: 'smuggled' })),
    }).toString();
    await onWire(async (wire) => {
      for (const headers of [
        { 'Content-Encoding': 'nonsense' },
        { 'Content-Encoding': 'nonsense', 'Transfer-Encoding': 'chunked' },
      ] as Record<string, string>[]) {
        const body = 'Transfer-Encoding' in headers ? chunked(smuggled.repeat(100), 1000) : smuggled.repeat(100);
        await wire.writeInPieces(requestBytes('POST', '/events', { headers, body }), 4096);
        assertRefused(answered(await wire.answer()), 415, 'unsupported_encoding');
      }
      wire.write(requestBytes('POST', '/events', { body: VALID }));
      assertAccepted(answered(await wire.answer()));
      assert.equal(wire.unread.length, 0);
    });
    await service.settled();
    assert.equal((await metrics(service, { event_name: 'smuggled' })).body.total_events, 0);
  });

  test('an upload that is broken off is no event and harms no other', async () => {
    const half = requestBytes('POST', '/events', { body: JSON.stringify(event({ event_name: 'broken_off' })) });
    const large = requestBytes('POST', '/events/bulk', { body: Buffer.alloc(3_000_000, 0x20) });
    const wires = await Promise.all(Array.from({ length: 40 }, () => Wire.connect(service.url)));
    for (const [i, wire] of wires.entries()) {
      const bytes = i % 2 === 0 ? half : large;
      wire.write(bytes.subarray(0, bytes.length - 1 - (i % 7)));
    }
    const others = Array.from({ length: 40 }, (_, i) =>
      postEvent(service, event({ event_name: 'beside_broken', user_id: `u${i}` })),
    );
    for (const [i, wire] of wires.entries()) {
      if (i % 4 < 2) wire.destroy();
      else wire.reset();
    }
    for (const answer of await Promise.all(others)) assertAccepted(answer);
    await until(async () => (await gauge('penstock_requests_open')) === 0, 'the broken requests are forgotten');
    assert.equal(await gauge('penstock_body_bytes'), 0);
    await service.settled();
    assert.equal((await metrics(service, { event_name: 'broken_off' })).body.total_events, 0);
    assert.equal((await metrics(service, { event_name: 'beside_broken' })).body.total_events, 40);
  });

  test('hanging up before the answer harms no other', async () => {
    for (let i = 0; i < 50; i += 1) {
      const wire = await Wire.connect(service.url);
      wire.write(requestBytes('POST', '/events', { body: VALID }));
      if (i % 2 === 0) await wire.sip();
      wire.reset();
    }
    assertAccepted(await postEvent(service, VALID));
    await until(async () => (await gauge('penstock_requests_open')) === 0, 'no request is left open');
  });

  test('headers may come to 15 KB, and more is refused without harm', async () => {
    await onWire(async (wire) => {
      wire.write(requestBytes('POST', '/events', { headers: { Cookie: 'c'.repeat(15_000) }, body: VALID }));
      assertAccepted(answered(await wire.answer()));
      const many = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`X-Header-${i}`, 'v'.repeat(480)]));
      wire.write(requestBytes('POST', '/events', { headers: many, body: VALID }));
      assertAccepted(answered(await wire.answer()));
    });
    await onWire(async (wire) => {
      wire.write(requestBytes('POST', '/events', { headers: { Cookie: 'c'.repeat(40_000) }, body: VALID }));
      assert.equal((await wire.answer()).status, 431);
    });
    assertAccepted(await postEvent(service, VALID));
  });

  test('a client that sends HTTP/1.0 or asks to close is answered', async () => {
    await onWire(async (wire) => {
      wire.write(requestBytes('POST', '/events', { headers: { Connection: 'close' }, body: VALID }));
      assertAccepted(answered(await wire.answer()));
    });
  });
});

async function gauge(name: string): Promise<number> {
  const { text } = await send(`${service.adminUrl}/metrics`);
  const line = text.split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}
