import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runAudit } from '../support/audit.js';
import { penstock } from '../support/command.js';
import { removeDirectory, Service, temporaryDirectory, until } from '../support/service.js';

/** Rows that ClickHouse refuses, by a constraint of the operator's, from the segment to the store and back. */

const COUNT = 5_000;
const BAD = 200;

function events(count: number, isBad: (i: number) => boolean): object[] {
  return Array.from({ length: count }, (_, i) => ({
    event_name: 'order',
    channel: 'api',
    user_id: isBad(i) ? `bad at row ${i}` : `user ${i}`,
    timestamp: 1_700_000_000 + i,
    tags: ['a', 'b'],
    metadata: { i },
  }));
}

async function send(service: Service, list: readonly object[]): Promise<void> {
  const response = await fetch(`${service.url}/events/bulk`, {
    method: 'POST',
    body: JSON.stringify({ events: list }),
  });
  assert.equal(response.status, 202);
}

async function totals(service: Service): Promise<readonly [total: number, users: number]> {
  const response = await fetch(`${service.url}/metrics?event_name=order`);
  const { total_events, unique_users } = (await response.json()) as { total_events: number; unique_users: number };
  return [total_events, unique_users];
}

/** So many events, each of another user: the roller finds in the ledger what a command stored. */
async function counted(service: Service, expected: number): Promise<void> {
  await until(async () => (await totals(service))[0] >= expected, `${expected} events are counted`, 60_000);
  assert.deepEqual(await totals(service), [expected, expected]);
}

interface Listed {
  readonly id: string;
  readonly at: string;
  readonly error: { readonly code: string; readonly message: string };
  readonly event: { readonly user_id: string; readonly metadata: { readonly i: number } };
}

async function lettersOf(dataDir: string): Promise<Listed[]> {
  const { code, stdout } = await penstock(['dead-letter', 'ls', '--json'], { dataDir });
  const letters = stdout.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Listed]));
  assert.equal(code, letters.length === 0 ? 0 : 1);
  return letters;
}

async function alter(service: Service, change: string): Promise<void> {
  const client = service.clickhouse();
  await client.command({ query: `ALTER TABLE penstock.events ${change}` });
  await client.close();
}

test('refused rows become dead letters, all others are stored, and requeueing counts each exactly once', async (t) => {
  const service = await Service.start();
  const { dataDir } = service;
  try {
    await alter(service, "ADD CONSTRAINT no_bad CHECK user_id NOT LIKE 'bad%'");
    await send(
      service,
      events(COUNT, (i) => i % (COUNT / BAD) === 3),
    );
    await service.settled();
    await counted(service, COUNT - BAD);
    const found = service.lines.find(({ msg }) => msg === 'found what is refused');
    t.diagnostic(`${BAD} of ${COUNT} rows refused: ${String(found?.['inserts'])} INSERTs`);
    assert.ok(Number(found?.['inserts']) < 2 * BAD + 20);

    const letters = await lettersOf(dataDir);
    assert.equal(letters.length, BAD);
    for (const { event, error } of letters) {
      assert.equal(event.user_id, `bad at row ${event.metadata.i}`);
      assert.equal(event.metadata.i % (COUNT / BAD), 3);
      assert.ok(error.code === '469' && error.message.includes(event.user_id), error.message);
    }
    assert.deepEqual((await runAudit(dataDir)).sums, {
      synced: COUNT,
      stored: COUNT - BAD,
      pending: 0,
      dead: BAD,
      purged: 0,
      aside: 0,
    });

    // Refused again: they stay, with the new error.
    const [first, second, third] = letters;
    assert.ok(first && second && third);
    await alter(service, "ADD CONSTRAINT nobody CHECK user_id != 'bad at row 28'");
    const refused = await penstock(['dead-letter', 'requeue', first.id, second.id], { dataDir });
    assert.equal(refused.code, 1, refused.stderr);
    assert.match(refused.stdout, /^0 dead letters stored, 2 refused again\n/);
    const still = await lettersOf(dataDir);
    assert.equal(still.length, BAD);
    assert.ok(still.every(({ id, at }, i) => id === letters[i]?.id && i < 2 === (at !== letters[i]?.at)));

    // Some are taken, one is not.
    await alter(service, 'DROP CONSTRAINT no_bad');
    const shown = await penstock(['dead-letter', 'show', second.id], { dataDir });
    assert.ok(shown.code === 0 && shown.stdout.includes('bad at row 28'), shown.stdout);
    const some = await penstock(['dead-letter', 'requeue', first.id, second.id, third.id, '1:1', '--json'], {
      dataDir,
    });
    assert.equal(some.code, 1);
    const outcome = JSON.parse(some.stdout) as { stored: number; refused: { id: string }[]; missing: string[] };
    assert.deepEqual([outcome.stored, outcome.refused.map(({ id }) => id), outcome.missing], [2, [second.id], ['1:1']]);
    assert.equal((await lettersOf(dataDir)).length, BAD - 2);
    await counted(service, COUNT - BAD + 2);

    // One is thrown away; the rest is requeued by two operators at once.
    const purged = await penstock(['dead-letter', 'purge', second.id], { dataDir });
    assert.equal(purged.stdout, '1 dead letter purged\n');
    const both = await Promise.all([1, 2].map(() => penstock(['dead-letter', 'requeue', '--all'], { dataDir })));
    assert.deepEqual(
      both.map(({ code }) => code),
      [0, 0],
      both.map(({ stderr }) => stderr).join(''),
    );
    await penstock(['dead-letter', 'requeue', '--all'], { dataDir });
    assert.deepEqual(await lettersOf(dataDir), []);
    await counted(service, COUNT - 1);
    const after = await runAudit(dataDir);
    assert.deepEqual(after.sums, { synced: COUNT, stored: COUNT - 1, pending: 0, dead: 0, purged: 1, aside: 0 });
    assert.ok(after.ok);
  } finally {
    await service.dispose();
  }
});

test('a crash while the bad rows are searched for loses nothing, and a requeue without the instance counts once too', async () => {
  const dataDir = temporaryDirectory();
  let service = await Service.start({ dataDir });
  try {
    await alter(service, "ADD CONSTRAINT no_bad CHECK user_id NOT LIKE 'bad%'");
    await send(
      service,
      events(2_000, (i) => i % 20 === 0),
    );
    await until(
      () => service.lines.some(({ msg }) => msg === 'ClickHouse refuses a row: looking for it'),
      'the search begins',
    );
    await service.kill();
    service = await Service.start({ dataDir });
    await service.settled();
    await counted(service, 1_900);
    assert.ok((await runAudit(dataDir)).ok);
    await alter(service, 'DROP CONSTRAINT no_bad');
    assert.equal(await service.stop(), 0);

    const { code, stdout, stderr } = await penstock(['dead-letter', 'requeue', '--all'], { dataDir });
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '100 dead letters stored, 0 refused again\n');
    service = await Service.start({ dataDir });
    await counted(service, 2_000);
    const { ok, sums } = await runAudit(dataDir);
    assert.ok(ok && sums.stored === 2_000 && sums.dead === 0);
  } finally {
    await service.dispose();
    await removeDirectory(dataDir);
  }
});
