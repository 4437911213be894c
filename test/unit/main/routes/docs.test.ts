import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { App, us_socket_local_port } from 'uWebSockets.js';
import { DOCS_PATHS, mountDocs } from '../../../../src/main/routes/docs.js';
import { loadConfig } from '../../../../src/shared/config.js';
import { openApiDocument } from '../../../../src/shared/openapi.js';

const config = loadConfig({}, {});
let port = 0;
const app = App();

before(async () => {
  mountDocs(app, config);
  await new Promise<void>((resolve, reject) => {
    app.listen('127.0.0.1', 0, (socket) => {
      if (socket === false) return reject(new Error('cannot listen'));
      port = us_socket_local_port(socket);
      resolve();
    });
  });
});

after(() => void app.close());

const get = (path: string, method = 'GET') => fetch(`http://127.0.0.1:${port}${path}`, { method });

function swaggerUi(name: string): Buffer {
  return readFileSync(new URL(`../../../../../node_modules/swagger-ui-dist/${name}`, import.meta.url));
}

test('GET /openapi.json is the document', async () => {
  const response = await get('/openapi.json');
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.deepEqual(await response.json(), openApiDocument(config));
});

describe('GET /docs', () => {
  test('loads only what this instance serves, and only scripts from files', async () => {
    const response = await get('/docs');
    assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8');
    const policy = response.headers.get('content-security-policy') ?? '';
    assert.match(policy, /default-src 'none'; script-src 'self';/);
    assert.doesNotMatch(policy, /https?:|unsafe-eval|script-src[^;]*unsafe-inline|\*/);
    const html = await response.text();
    assert.doesNotMatch(html, /https?:\/\/|<script(?![^>]*src=)|\son\w+=/);
    const addresses = [...html.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, address = '']) => address);
    const local = addresses.filter((address) => !address.startsWith('data:'));
    assert.equal(local.length, 4);
    for (const address of local) {
      const loaded = await get(new URL(address, `http://127.0.0.1:${port}/docs`).pathname);
      assert.equal(loaded.status, 200, address);
      await loaded.arrayBuffer();
    }
  });

  test('its two assets are those of swagger-ui-dist, to the byte', async () => {
    for (const name of ['swagger-ui.css', 'swagger-ui-bundle.js']) {
      const response = await get(`/docs/${name}?v=1`);
      assert.ok(Buffer.from(await response.arrayBuffer()).equals(swaggerUi(name)), name);
      assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
    }
  });

  test('a reader that pauses gets the whole of a large asset', async () => {
    const expected = swaggerUi('swagger-ui-bundle.js');
    const socket = connect(port, '127.0.0.1');
    socket.write('GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n');
    let received = Buffer.alloc(0);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      received = Buffer.concat([received, chunk]);
      // Reads one chunk at a time, giving way to the server between them.
      await new Promise((resolve) => setImmediate(resolve));
      const head = received.indexOf('\r\n\r\n');
      if (head >= 0 && received.length - head - 4 >= expected.length) break;
    }
    assert.ok(received.subarray(received.indexOf('\r\n\r\n') + 4).equals(expected));
  });
});

test('HEAD has the head of GET and no body', async () => {
  for (const path of DOCS_PATHS) {
    const [head, whole] = [await get(path, 'HEAD'), await get(path)];
    assert.equal(head.status, 200, path);
    assert.equal(head.headers.get('content-type'), whole.headers.get('content-type'), path);
    assert.equal(head.headers.get('content-length'), String((await whole.arrayBuffer()).byteLength), path);
    assert.equal((await head.arrayBuffer()).byteLength, 0);
  }
});
