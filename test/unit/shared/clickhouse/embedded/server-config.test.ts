import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import {
  childEnvironment,
  credentialProblem,
  mergePool,
  renderServerConfig,
  renderUsersConfig,
  serverMemoryLimitBytes,
} from '../../../../../src/shared/clickhouse/embedded/server-config.js';

const GiB = 1024 ** 3;

function serverConfig(user = 'writer', dataPath = '/var/data'): string {
  return renderServerConfig({ dataPath, usersPath: '/var/users.xml', cores: 2, memoryBytes: 8 * GiB, user });
}

/** The rules in order, each as its XML. */
function rules(config: string): string[] {
  return [...config.matchAll(/<rule>(.*?)<\/rule>/g)].map((match) => match[1] ?? '');
}

test('only 127.0.0.1 is listened on, and no port but that of HTTP is configured', () => {
  const config = serverConfig();
  assert.deepEqual(config.match(/<listen_host>.*?<\/listen_host>/g), ['<listen_host>127.0.0.1</listen_host>']);
  assert.deepEqual(config.match(/<\w*port\w*\b/g), ['<http_port']);
});

test('each rule that leads to a query handler asks for a secret, and the last one refuses whatever is left', () => {
  const all = rules(serverConfig());
  const leadingToQueries = all.filter((rule) => rule.includes('dynamic_query_handler'));
  assert.equal(leadingToQueries.length, 2);
  for (const rule of leadingToQueries) assert.match(rule, /^<headers>.*<(Authorization|X-ClickHouse-Key) from_env=/);
  assert.match(all.at(-1) ?? '', /^<handler><type>static<\/type><status>403<\/status>/);
});

test('the configuration is the same for every start, so that a competing one changes nothing', () => {
  assert.equal(serverConfig(), serverConfig());
  const child = { user: 'writer', password: 'p' };
  const first = childEnvironment({ ...child, httpPort: 1, bootToken: 'a' });
  const second = childEnvironment({ ...child, httpPort: 2, bootToken: 'b' });
  for (const name of ['PENSTOCK_EMBEDDED_PORT', 'PENSTOCK_EMBEDDED_BOOT_TOKEN']) {
    assert.notEqual(first[name], second[name]);
    assert.ok(serverConfig().includes(`from_env="${name}"`));
  }
});

test('a password is in no file, and is escaped where it is inserted into XML', () => {
  const password = `<"&'>`;
  const users = renderUsersConfig('writer', password);
  assert.ok(users.includes(createHash('sha256').update(password).digest('hex')));
  assert.ok(!users.includes(password));
  const env = childEnvironment({ httpPort: 1, bootToken: 'a', user: 'writer', password });
  assert.equal(env['PENSTOCK_EMBEDDED_KEY'], '&#60;&#34;&#38;&#39;&#62;');
  assert.equal(env['PENSTOCK_EMBEDDED_AUTHORIZATION'], `Basic ${Buffer.from(`writer:${password}`).toString('base64')}`);
});

test('paths with characters of XML are escaped', () => {
  assert.ok(serverConfig('writer', '/var/a&b<c').includes('<path>/var/a&#38;b&#60;c/</path>'));
});

test('default has no password but next to no rights, unless it is the configured user', () => {
  const grantsOf = (user: string, configured: string): string[] => {
    const users = /<users>.*<\/users>/.exec(renderUsersConfig(configured, 'p'))?.[0] ?? '';
    const entry = new RegExp(`<${user}>.*?</${user}>`).exec(users)?.[0] ?? '';
    return [...entry.matchAll(/<query>(.*?)<\/query>/g)].map((match) => match[1] ?? '');
  };
  const everything = ['GRANT ALL ON *.* WITH GRANT OPTION'];
  assert.deepEqual(grantsOf('writer', 'writer'), everything);
  assert.deepEqual(grantsOf('default', 'default'), everything);
  assert.deepEqual(grantsOf('default', 'writer'), [
    'GRANT SYSTEM LISTEN ON *.*',
    'GRANT CREATE ARBITRARY TEMPORARY TABLE ON *.*',
    'GRANT TABLE ENGINE ON File',
  ]);
});

test('the memory limit leaves room on small machines and is half of large ones', () => {
  assert.equal(serverMemoryLimitBytes(16 * GiB), 8 * GiB);
  assert.equal(serverMemoryLimitBytes(2 * GiB), GiB);
  assert.equal(serverMemoryLimitBytes(1.5 * GiB), GiB);
  assert.equal(serverMemoryLimitBytes(GiB), Math.floor(0.8 * GiB));
});

test('on any number of cores the pool has room for the merges and mutations that its thresholds ask for', () => {
  for (let cores = 1; cores <= 128; cores++) {
    const { threads, tasks, reserve } = mergePool(cores);
    assert.ok(threads >= 2 && threads <= 16);
    assert.ok(reserve >= 1 && reserve < tasks);
  }
});

test('credentials that could not be written down are refused by name', () => {
  for (const user of ['default', 'a', '_', 'Some-User_9', 'x'.repeat(64)])
    assert.equal(credentialProblem(user, 'p'), undefined);
  for (const user of ['', '9a', 'a b', 'a:b', 'a.b', '<a>', 'ü', 'x'.repeat(65)]) {
    assert.match(credentialProblem(user, 'p') ?? '', /^the user /);
  }
  for (const password of ['a\nb', '\u0000', 'a\u007f', 'regex:.*']) {
    assert.match(credentialProblem('a', password) ?? '', /^the password /);
  }
  assert.equal(credentialProblem('a', 'ü <&> "x" regex:'), undefined);
});
