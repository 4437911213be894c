import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatStatus } from '../../../src/cli/migrate.js';

test('the status names the database and each version, applied or not', () => {
  const versions = [
    { version: 1, name: 'events', appliedAt: '2026-02-25T13:00:00Z' },
    { version: 2, name: 'rollups', appliedAt: undefined },
  ];
  assert.equal(
    formatStatus('penstock', { current: 1, latest: 2, versions }),
    'penstock: version 1 of 2\n   1  events   applied 2026-02-25T13:00:00Z\n   2  rollups  not applied\n',
  );
  assert.equal(formatStatus('other', { current: 0, latest: 0, versions: [] }), 'other: version 0 of 0\n');
});
