import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HttpResponse } from 'uWebSockets.js';
import { type Reply, send, sendError, statusLine } from '../../../src/main/reply.js';
import { ERROR_CODES, RequestError, statusOf } from '../../../src/shared/errors.js';

interface Sent {
  status: string;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  readonly corked: boolean;
}

/** A socket that takes at most `room` bytes at a time, and what reached it in the end. */
function sendTo(room: number, act: (res: HttpResponse) => void): Sent {
  const chunks: Buffer[] = [];
  const headers: Record<string, string> = {};
  let status = '';
  let corked = false;
  let inCork = false;
  let writable: ((offset: number) => boolean) | undefined;
  const written = (): number => chunks.reduce((sum, { length }) => sum + length, 0);
  const tryEnd = (bytes: Uint8Array, total: number): [boolean, boolean] => {
    chunks.push(Buffer.from(bytes.subarray(0, room)));
    return [bytes.length <= room, written() === total];
  };
  const res = {
    cork(write: () => void) {
      inCork = true;
      write();
      inCork = false;
    },
    writeStatus(line: string) {
      corked = inCork;
      status = line;
    },
    writeHeader(name: string, value: string) {
      assert.ok(!(name in headers), `${name} is written twice`);
      headers[name] = value;
    },
    end(body: string | Uint8Array, close: boolean) {
      chunks.push(Buffer.from(body));
      if (close) this.writeHeader('Connection', 'close');
    },
    endWithoutBody: () => undefined,
    tryEnd,
    onWritable(handler: (offset: number) => boolean) {
      writable = handler;
    },
  };
  act(res as unknown as HttpResponse);
  // The socket drains: it asks for what is behind what it has, until it has all.
  for (let turns = 0; turns < 100_000; turns += 1) if (writable?.(written()) ?? true) break;
  return { status, headers, body: Buffer.concat(chunks), corked };
}

test('an answer of any size reaches a reader of any speed whole, once', () => {
  for (const size of [0, 1, 64 * 1024, 64 * 1024 + 1, 300_000]) {
    for (const room of [1000, 65_536, 1_000_000]) {
      for (const make of [(bytes: Buffer) => bytes, (bytes: Buffer) => bytes.toString('latin1')]) {
        const bytes = Buffer.alloc(size, 'penstock');
        let done = 0;
        const reply = { status: 200, body: make(Buffer.from(bytes)) };
        const whenDone = (): void => {
          done += 1;
          // It is somebody else's from now on.
          if (typeof reply.body !== 'string') reply.body.fill(0);
        };
        const { body, corked } = sendTo(room, (res) => send(res, { ...reply, done: whenDone }));
        assert.ok(body.equals(bytes), `${size} bytes, ${room} at a time`);
        assert.ok(corked);
        assert.equal(done, 1);
      }
    }
  }
});

test('an answer says what it is, and that it closes the connection where it does', () => {
  const cases: readonly (readonly [Partial<Reply>, Readonly<Record<string, string>>])[] = [
    [{}, { 'Content-Type': 'application/json' }],
    [
      { contentType: 'text/plain', headers: [['Allow', 'GET']] },
      { 'Content-Type': 'text/plain', Allow: 'GET' },
    ],
    [{ close: true }, { 'Content-Type': 'application/json', Connection: 'close' }],
    [
      { close: true, body: 'x'.repeat(100_000) },
      { 'Content-Type': 'application/json', Connection: 'close' },
    ],
    [
      { headOnly: true, body: 'four' },
      { 'Content-Type': 'application/json', 'Content-Length': '4' },
    ],
  ];
  for (const [reply, headers] of cases) {
    const sent = sendTo(1_000_000, (res) => send(res, { status: 200, body: '', ...reply }));
    assert.deepEqual([sent.status, sent.headers], ['200 OK', headers]);
    if (reply.headOnly === true) assert.equal(sent.body.length, 0);
  }
});

test('every error has the one shape, a status line of its own, and Retry-After in whole seconds where a retry can help', () => {
  for (const code of ERROR_CODES) {
    assert.match(statusLine(statusOf(code)), /^\d{3} [A-Z][A-Za-z ]+$/);
    assert.doesNotMatch(statusLine(statusOf(code)), /Unknown/);
    const plain = sendTo(1000, (res) => sendError(res, new RequestError(code, 'what is wrong')));
    assert.equal(plain.status, statusLine(statusOf(code)));
    assert.deepEqual(JSON.parse(plain.body.toString()), { error: 'what is wrong', code });
    assert.equal(plain.headers['Retry-After'], undefined);
  }
  for (const [seconds, header] of [
    [0, '1'],
    [0.1, '1'],
    [1, '1'],
    [1.2, '2'],
    [600, '600'],
  ] as const) {
    const error = new RequestError('overloaded', 'later', { retryAfterS: seconds });
    assert.equal(sendTo(1000, (res) => sendError(res, error)).headers['Retry-After'], header);
  }
  const details = [{ path: '/timestamp', message: 'is required' }];
  const { body } = sendTo(1000, (res) =>
    sendError(res, new RequestError('validation_error', 'timestamp is required', { details })),
  );
  assert.deepEqual(JSON.parse(body.toString()), { error: 'timestamp is required', code: 'validation_error', details });
});
