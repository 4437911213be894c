import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { penstock } from '../../support/command.js';

const dataDir = mkdtempSync(join(tmpdir(), 'penstock-unit-'));
after(() => rmSync(dataDir, { recursive: true, force: true }));

describe('what cannot be meant exits 2, says why, and does nothing', () => {
  const cases: readonly (readonly [name: string, args: readonly string[], stderr: RegExp])[] = [
    [
      'no letters named',
      ['dead-letter', 'requeue'],
      /name the letters by their ids, or say which with --all or --before/,
    ],
    ['letters named twice', ['dead-letter', 'purge', '1:2', '--all'], /name the letters by their ids/],
    ['no id', ['dead-letter', 'show', 'x'], /an id is EPOCH:SEQUENCE .* not x/],
    ['no date', ['dead-letter', 'purge', '--before', 'soon'], /--before: expected a date such as .* got soon/],
    ['--before is for purge', ['dead-letter', 'requeue', '--before', '2026-01-01'], /unknown option '--before'/],
    ['no command of the group', ['wal', 'vanish'], /unknown command 'vanish'/],
    ['no log there', ['wal', 'verify', '/nowhere'], /there is no write-ahead log: \/nowhere does not exist/],
    ['no log to audit', ['audit'], /there is no write-ahead log: .*wal does not exist/],
    ['nobody to forget', ['forget'], /required option '--user-id <id>' not specified/],
    ['no id', ['forget', '--user-id', ''], /--user-id: expected 1–256 bytes/],
    ['an id too long', ['forget', '--user-id', '€'.repeat(86)], /--user-id: expected 1–256 bytes/],
    ['bad variable', ['audit', '--port', 'x'], /--port: expected/],
  ];
  for (const [name, args, expected] of cases) {
    test(name, async () => {
      const { code, stdout, stderr } = await penstock(args, { dataDir });
      assert.match(stderr, expected);
      assert.deepEqual([code, stdout], [2, '']);
    });
  }
});

test('every group and command explains itself, exit codes included, in 120 columns', async () => {
  for (const args of [['dead-letter'], ['dead-letter', 'purge'], ['wal'], ['wal', 'replay'], ['audit'], ['forget']]) {
    const { code, stdout, stderr } = await penstock([...args, '--help'], { dataDir });
    assert.deepEqual([code, stderr], [0, ''], args.join(' '));
    assert.match(stdout, new RegExp(`^Usage: penstock ${args.join(' ')}`));
    for (const line of stdout.split('\n')) assert.ok(line.length <= 120, line);
  }
});

test('an empty log and an empty store are well, as text and as JSON', async () => {
  mkdirSync(join(dataDir, 'wal'), { recursive: true });
  const run = async (...args: string[]) => {
    const { code, stdout } = await penstock(args, { dataDir });
    assert.equal(code, 0, args.join(' '));
    return stdout;
  };
  assert.equal(await run('dead-letter', 'ls'), '0 dead letters\n');
  assert.equal(await run('dead-letter', 'ls', '--json'), '');
  assert.equal(await run('dead-letter', 'requeue', '--all'), '0 dead letters stored, 0 refused again\n');
  assert.equal(await run('wal', 'verify'), '0 segments, 0 rows, all intact\n');
  assert.equal(await run('wal', 'dump'), '');
  assert.deepEqual(JSON.parse(await run('wal', 'verify', '--json')), { ok: true, segments: [], findings: [] });
  assert.match(await run('wal', 'stat'), /nothing is pending/);
});
