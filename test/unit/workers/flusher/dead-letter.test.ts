import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { type DeadLetter, DeadLetterStore } from '../../../../src/workers/flusher/dead-letter.js';
import { temporaryDirectory } from '../../../support/wal.js';

function letter(sequence: number): DeadLetter {
  return {
    id: `7:${sequence}`,
    at: '2026-02-25T13:00:00.000Z',
    segment: '0000000000000001.wal',
    error: { code: '469', message: 'violated' },
    event: { event_id: '', event_name: 'e', channel: 'web', user_id: 'u', timestamp: 1 },
    receivedAtUs: 1,
    row: '',
  };
}

function idsIn(store: DeadLetterStore): string[] {
  return store.files().flatMap((name) => store.read(name).map(({ id }) => id));
}

test('letters of a segment that is shipped again take the place of those that it had, and no other file is touched', (t) => {
  const store = new DeadLetterStore(temporaryDirectory(t));
  store.put(7n, 0n, [letter(1), letter(2)]);
  store.put(7n, 10n, [letter(11)]);
  store.put(7n, 0n, [letter(2), letter(3)]);
  assert.deepEqual(idsIn(store), ['7:2', '7:3', '7:11']);
  store.put(7n, 0n, []);
  assert.deepEqual(idsIn(store), ['7:11']);
});

test('a letter that comes in while another process takes letters away is not lost', (t) => {
  const directory = temporaryDirectory(t);
  const [shipper, command] = [new DeadLetterStore(directory), new DeadLetterStore(directory)];
  shipper.put(7n, 0n, [letter(1), letter(2)]);
  const [name = ''] = command.files();
  const before = command.read(name);
  // The segment is shipped again, with another result, before the command has written what it leaves of the old file.
  shipper.put(7n, 0n, [letter(2), letter(5)]);
  command.reduce(
    name,
    before.filter(({ id }) => id !== '7:1'),
  );
  assert.deepEqual([...new Set(idsIn(command))], ['7:2', '7:5']);
});

test('a file goes with its last letter, and what went meanwhile is no error', (t) => {
  const store = new DeadLetterStore(temporaryDirectory(t));
  store.put(7n, 0n, [letter(1)]);
  const [name = ''] = store.files();
  store.reduce(name, []);
  store.reduce(name, []);
  assert.deepEqual([store.files(), store.read(name), store.bytes], [[], [], 0]);
});

test('the limit holds for letters that come in, counts those of the segment once, and never stops a command', (t) => {
  const store = new DeadLetterStore(temporaryDirectory(t), 800);
  store.put(7n, 0n, [letter(1), letter(2)]);
  store.put(7n, 0n, [letter(1), letter(2)]);
  assert.throws(
    () => store.put(7n, 10n, [letter(11), letter(12)]),
    /at its limit of 800 bytes.*penstock dead-letter ls/,
  );
  const [name = ''] = store.files();
  store.reduce(name, [letter(1), { ...letter(2), error: { code: '1', message: 'x'.repeat(900) } }]);
  assert.deepEqual(idsIn(store), ['7:1', '7:2']);
});

test('what was purged is known by its id, also behind a line that a crash has cut short', (t) => {
  const directory = temporaryDirectory(t);
  const store = new DeadLetterStore(directory);
  store.put(7n, 0n, [letter(1)]);
  assert.deepEqual(store.purged(), []);
  store.notePurged(['7:1', '7:2']);
  fs.appendFileSync(path.join(directory, 'purged.log'), '\n7:99');
  store.notePurged(['7:3']);
  assert.deepEqual(store.purged(), ['7:1', '7:2', '7:3']);
});

test('a line that is no letter is named with its file', (t) => {
  const directory = temporaryDirectory(t);
  const store = new DeadLetterStore(directory);
  store.put(7n, 0n, [letter(1)]);
  const [name = ''] = store.files();
  fs.appendFileSync(path.join(directory, name), 'no letter\n');
  assert.throws(() => store.read(name), new RegExp(`${name}, line 2 is no dead letter`));
});
