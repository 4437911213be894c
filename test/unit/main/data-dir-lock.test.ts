import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { DataDirLock } from '../../../src/main/data-dir-lock.js';
import { temporaryDirectory } from '../../support/wal.js';

const MODULE = new URL('../../../src/main/data-dir-lock.js', import.meta.url).href;

type Child = ChildProcessByStdio<null, Readable, null>;

/** A process that says whether it has the lock, and then lives until it is killed. */
async function startHolder(t: TestContext, directory: string): Promise<{ child: Child; says: string }> {
  const script = `import { DataDirLock } from ${JSON.stringify(MODULE)};
    await DataDirLock.acquire(process.argv[1]).then(() => console.log('held'), (error) => console.log(error.message));
    setInterval(() => undefined, 1e6);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  child.stdout.setEncoding('utf8');
  const [says] = (await once(child.stdout, 'data')) as [string];
  return { child, says: says.trim() };
}

function sockets(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.startsWith('lock.'));
}

test('a second one is refused, told the directory and who has it, and leaves the first alone', async (t) => {
  const directory = join(temporaryDirectory(t), 'new', 'data');
  const { child, says } = await startHolder(t, directory);
  assert.equal(says, 'held');
  for (let i = 0; i < 3; i += 1) {
    await assert.rejects(DataDirLock.acquire(directory), (error: Error) => {
      assert.ok(error.message.includes(directory) && error.message.includes(`process ${child.pid},`), error.message);
      assert.match(error.message, /running since \d{4}-/);
      return true;
    });
    assert.equal(sockets(directory).length, 1);
  }
  assert.equal(statSync(directory).mode & 0o777, 0o700);
});

test('a process that was killed leaves nothing in the way of the next', async (t) => {
  const directory = temporaryDirectory(t);
  for (let round = 0; round < 3; round += 1) {
    const { child, says } = await startHolder(t, directory);
    assert.equal(says, 'held', `round ${round}`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(sockets(directory).length, 1, 'what a killed process leaves');
  }
  const lock = await DataDirLock.acquire(directory);
  assert.equal(sockets(directory).length, 1);
  lock.release();
  assert.deepEqual(sockets(directory), []);
});

test('a lock that is released can be had again, again and again', async (t) => {
  const directory = temporaryDirectory(t);
  for (let round = 0; round < 20; round += 1) {
    const lock = await DataDirLock.acquire(directory);
    await assert.rejects(DataDirLock.acquire(directory), /in use by the process/);
    lock.release();
  }
});

test('the path of a directory may be longer than that of a socket', async (t) => {
  const directory = join(temporaryDirectory(t), 'd'.repeat(200), 'd'.repeat(200));
  mkdirSync(directory, { recursive: true });
  const lock = await DataDirLock.acquire(directory);
  await assert.rejects(DataDirLock.acquire(directory), /in use by the process/);
  lock.release();
});

test('of several that start at once exactly one wins', async (t) => {
  const directory = temporaryDirectory(t);
  for (let round = 0; round < 25; round += 1) {
    const starting = Array.from({ length: 2 + (round % 3) }, () => DataDirLock.acquire(directory));
    const outcomes = await Promise.allSettled(starting);
    const won = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    const why = outcomes.map((outcome) => (outcome.status === 'fulfilled' ? 'won' : String(outcome.reason))).join('\n');
    assert.equal(won.length, 1, `round ${round}:\n${why}`);
    for (const { value } of won) value.release();
  }
});

test('of two processes that start at once exactly one wins', async (t) => {
  const directory = temporaryDirectory(t);
  for (let round = 0; round < 4; round += 1) {
    const both = await Promise.all([startHolder(t, directory), startHolder(t, directory)]);
    assert.equal(both.filter(({ says }) => says === 'held').length, 1, both.map(({ says }) => says).join('\n'));
    await Promise.all(
      both.map(async ({ child }) => {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }),
    );
  }
});
