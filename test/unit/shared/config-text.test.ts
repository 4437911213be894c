import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatBytes, nearest, parseBytes, parseInteger } from '../../../src/shared/config-text.js';

test('any number of bytes survives being written and read', () => {
  const bytes = fc.oneof(
    fc.maxSafeNat(),
    fc.integer({ min: 0, max: 4096 }).chain((n) => fc.constantFrom(n * 1024, n * 1024 ** 2, n * 1024 ** 3)),
  );
  fc.assert(fc.property(bytes, (n) => assert.equal(parseBytes(formatBytes(n)), n)));
});

test('bytes are written in the largest unit that divides them', () => {
  assert.deepEqual([0, 1023, 1024, 1536, 1024 ** 2, 8 * 1024 ** 3].map(formatBytes), [
    '0',
    '1023',
    '1KiB',
    '1536',
    '1MiB',
    '8GiB',
  ]);
});

test('what is no size is none', () => {
  for (const text of ['', 'KiB', '1.5GiB', '-1', '1TiB', '1 K', '0x10', '1e6', '١']) {
    assert.equal(parseBytes(text), undefined, text);
  }
});

test('an integer is read exactly or not at all', () => {
  fc.assert(fc.property(fc.maxSafeInteger(), (n) => assert.equal(parseInteger(String(n)), n)));
  for (const text of ['', '-', '1.0', '1e1', '9007199254740993', ' 1', '+1'])
    assert.equal(parseInteger(text), undefined, text);
});

test('the nearest name is the one with the fewest edits, or none', () => {
  assert.equal(nearest('prot', ['port', 'host', 'log-level']), 'port');
  assert.equal(nearest('hst', ['port', 'host', 'log-level']), 'host');
  assert.equal(nearest('entirely', ['port', 'host', 'log-level']), undefined);
  assert.equal(nearest('port', []), undefined);
});
