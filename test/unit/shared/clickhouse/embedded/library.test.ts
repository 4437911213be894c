import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Host, locateLibrary } from '../../../../../src/shared/clickhouse/embedded/library.js';

const LINUX: Host = { platform: 'linux', arch: 'x64', glibcVersion: '2.36', resolve: (id) => `/modules/${id}` };
const WHAT_TO_DO = /linux-x64 with glibc and without --omit=optional, or set PENSTOCK_CLICKHOUSE_URL/;

test('the library is found where the packages are installed', () => {
  assert.equal(locateLibrary(LINUX), '/modules/@chdb/lib-linux-x64-gnu/libchdb.so');
});

test('where the packages are missing or cannot be, the error says what to do', () => {
  const missing = (absent: string): Host => ({
    ...LINUX,
    resolve: (id) => {
      if (id.startsWith(absent)) throw new Error(`Cannot find module '${id}'`);
      return id;
    },
  });
  const hosts: readonly [Host, RegExp][] = [
    [missing('@chdb/'), /not installed/],
    [missing('ffi-rs'), /not installed/],
    [{ ...LINUX, platform: 'darwin', arch: 'arm64', glibcVersion: undefined }, /none for darwin-arm64\./],
    [{ ...LINUX, arch: 'arm64' }, /none for linux-arm64/],
    [{ ...LINUX, glibcVersion: undefined }, /linux-x64 without glibc/],
  ];
  for (const [host, why] of hosts) {
    assert.throws(() => locateLibrary(host), why);
    assert.throws(() => locateLibrary(host), WHAT_TO_DO);
  }
});
