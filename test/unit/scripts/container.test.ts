import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { loadConfig, optionTable } from '../../../src/shared/config.js';

const atRoot = (name: string) => readFileSync(new URL(`../../../../${name}`, import.meta.url), 'utf8');

test('the image and the compose file set only variables that there are', () => {
  const known = new Set(optionTable().map((row) => row.variable));
  for (const file of ['Dockerfile', 'docker-compose.yml']) {
    const used = new Set(atRoot(file).match(/PENSTOCK_[A-Z_]+/g));
    assert.ok(used.size > 3, file);
    for (const name of used) assert.ok(known.has(name), `${name} in ${file}`);
  }
});

test("the image's environment is a configuration, open to its network, that drains", () => {
  const [, block = ''] = /^ENV ((?:.*\\\n)*.*)$/m.exec(atRoot('Dockerfile')) ?? [];
  const env = Object.fromEntries(
    [...block.matchAll(/([A-Z_]+)=(\S+)/g)].map(([, name = '', value = '']) => [name, value]),
  );
  const config = loadConfig({}, env);
  assert.equal(config.host, '0.0.0.0');
  assert.equal(config.adminHost, '0.0.0.0');
  assert.equal(config.drainDelayMs, 3000);
  assert.equal(config.dataDir, '/var/lib/penstock');
});

test('the compose file waits long enough for a drain', () => {
  const [, grace = ''] = /stop_grace_period: (\d+)s/.exec(atRoot('docker-compose.yml')) ?? [];
  const { drainTimeoutMs } = loadConfig({}, {});
  assert.ok(Number(grace) * 1000 > 3000 + drainTimeoutMs);
});

test('the build context holds what the Dockerfile copies, and little else', () => {
  const copied = [...atRoot('Dockerfile').matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, names = '']) =>
    names.split(' '),
  );
  const allowed = atRoot('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1));
  assert.deepEqual(
    copied.map((name) => name.replace('./', '')).filter((name) => !allowed.includes(name)),
    [],
  );
});
