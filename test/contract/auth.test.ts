import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  assertAccepted,
  assertRefused,
  event,
  type HeaderFields,
  postBulk,
  postEvent,
  send,
} from '../support/requests.js';
import { Service, until } from '../support/service.js';

/** api.md: 401, 403 and 429 where keys are configured. */

const BOTH = 'key-for-both-scopes-0123456789';
const WRITE = 'key-that-writes-0123456789';
const READ = 'key-that-reads-0123456789';
const SLOW = 'key-of-five-a-second-0123456789';
const BULKY = 'key-of-hundred-a-second-0123456789';

let service: Service;
before(async () => {
  const keys = [BOTH, `${WRITE}:write`, `${READ}:read`, `${SLOW}:write@5`, `${BULKY}:write+read@100`];
  service = await Service.start({ env: { PENSTOCK_API_KEYS: keys.join(','), PENSTOCK_LOG_LEVEL: 'trace' } });
});
after(() => service.dispose());

const bearer = (key: string): HeaderFields => ({ authorization: `Bearer ${key}` });
const ask = (headers: HeaderFields = {}): ReturnType<typeof send> =>
  send(`${service.url}/metrics?event_name=a`, { headers });

describe('a key', () => {
  test('opens what its scopes name, by either header', async () => {
    for (const key of [BOTH, WRITE]) {
      for (const headers of [bearer(key), { 'x-api-key': key }, { authorization: `bearer  ${key}` }]) {
        assertAccepted(await postEvent(service, event(), headers));
        assert.equal((await postBulk(service, JSON.stringify([event()]), headers)).status, 202);
      }
    }
    for (const key of [BOTH, READ]) {
      for (const headers of [bearer(key), { 'x-api-key': key }]) assert.equal((await ask(headers)).status, 200);
    }
  });

  test('that is absent or unknown is 401 with WWW-Authenticate, on both endpoints and on questions', async () => {
    const none: HeaderFields[] = [
      {},
      bearer('unknown'),
      bearer(BOTH.slice(0, -1)),
      bearer(`${BOTH}x`),
      bearer(BOTH.toUpperCase()),
      { 'x-api-key': 'unknown' },
      { 'x-api-key': '' },
      { authorization: BOTH },
      { authorization: `Basic ${Buffer.from(`user:${BOTH}`).toString('base64')}` },
      { authorization: 'Bearer' },
    ];
    for (const headers of none) {
      const answers = [
        await postEvent(service, event(), headers),
        await postBulk(service, '[]', headers),
        await ask(headers),
      ];
      for (const answer of answers) {
        assertRefused(answer, 401, 'unauthorized');
        assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer/);
        assert.ok(!answer.text.includes(BOTH.slice(0, -1)));
      }
    }
  });

  test('without the scope is 403', async () => {
    assertRefused(await postEvent(service, event(), bearer(READ)), 403, 'forbidden');
    assertRefused(await postBulk(service, '[]', bearer(READ)), 403, 'forbidden');
    assertRefused(await ask(bearer(WRITE)), 403, 'forbidden');
  });

  test('is not asked for by health, readiness, the API description or the admin listener', async () => {
    for (const path of ['/health', '/ready', '/healthz', '/livez', '/readyz', '/docs', '/openapi.json']) {
      assert.equal((await send(service.url + path)).status, 200, path);
    }
    for (const path of ['/health', '/ready', '/metrics'])
      assert.equal((await send(service.adminUrl + path)).status, 200);
    assertRefused(await send(`${service.url}/nothing`), 404, 'not_found');
    assertRefused(await send(`${service.url}/events`), 405, 'method_not_allowed');
  });
});

describe('a rate', () => {
  test('refuses with 429 and Retry-After beyond it, takes nothing of what it refuses, and lets others alone', async () => {
    let accepted = 0;
    await until(async () => {
      const answer = await postEvent(service, event({ event_name: 'rated', user_id: `u${accepted}` }), bearer(SLOW));
      if (answer.status !== 202) {
        assertRefused(answer, 429, 'rate_limited');
        assert.equal(answer.headers.get('retry-after'), '1');
        return true;
      }
      accepted += 1;
      return false;
    }, 'the rate is exceeded');
    assert.ok(accepted >= 5, String(accepted));
    assertAccepted(await postEvent(service, event(), bearer(BOTH)));
    await until(async () => {
      const { status } = await postEvent(
        service,
        event({ event_name: 'rated', user_id: `u${accepted}` }),
        bearer(SLOW),
      );
      if (status === 202) accepted += 1;
      return status === 202;
    }, 'the rate has room again');
    const asked = { headers: bearer(BOTH) };
    await until(async () => {
      const { body } = await send(`${service.url}/metrics?event_name=rated`, asked);
      return body.total_events === accepted;
    }, `all ${accepted} that were acknowledged are counted`);
  });

  test('counts every event of a bulk body, which may overdraw it once: Retry-After says for how long', async () => {
    const events = JSON.stringify(Array.from({ length: 1000 }, (_, i) => event({ user_id: `u${i}` })));
    assert.equal((await postBulk(service, events, bearer(BULKY))).body.accepted, 1000);
    const refused = assertRefused(await postBulk(service, events, bearer(BULKY)), 429, 'rate_limited');
    const retryAfter = Number(refused.headers.get('retry-after'));
    // 900 too many at 100 a second, less what has gone by.
    assert.ok(retryAfter >= 2 && retryAfter <= 10, String(retryAfter));
    assertRefused(await postEvent(service, event(), bearer(BULKY)), 429, 'rate_limited');
    assert.equal((await ask(bearer(BULKY))).status, 200);
  });
});

test('no key is in any log line', () => {
  assert.ok(service.lines.length > 0);
  const log = service.lines.map((line) => JSON.stringify(line)).join('\n');
  for (const key of [BOTH, WRITE, READ, SLOW, BULKY, 'for-tests-only']) assert.ok(!log.includes(key));
});
