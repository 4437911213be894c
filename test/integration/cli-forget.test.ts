import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runAudit } from '../support/audit.js';
import { penstock } from '../support/command.js';
import type { EventRow } from '../support/metrics-model.js';
import {
  type Answered,
  assertAccepted,
  assertRefused,
  event,
  metrics,
  postBulk,
  postEvent,
} from '../support/requests.js';
import { assertRollupAnswers, questionsAbout, settledInRollups } from '../support/rollup-answers.js';
import { rollupFaults } from '../support/rollup-check.js';
import { removeDirectory, Service, temporaryDirectory, until } from '../support/service.js';

/** `penstock forget` beside the real service and without it: nothing of the user is left, and a resend does not bring him back. */

const SECRET = 'ann@example.org';
const T = 1_772_000_000;

function orders(user: string, count: number): Record<string, unknown>[] {
  return Array.from({ length: count }, (_, i) =>
    event({ event_name: 'order', user_id: user, timestamp: T + i * 3600 }),
  );
}

async function totals(service: Service): Promise<unknown[]> {
  const { body } = await metrics(service, { event_name: 'order' });
  return [body.total_events, body.unique_users];
}

async function command(service: Service, query: string): Promise<void> {
  const client = service.clickhouse();
  await client.command({ query });
  await client.close();
}

async function ask(service: Service, query: string): Promise<unknown> {
  const client = service.clickhouse();
  const result = await client.query({ query, format: 'JSONCompactEachRow' });
  const rows = await result.json();
  await client.close();
  return rows;
}

/** Files below a directory that have these bytes in them. ClickHouse's own are compressed, and go some minutes later. */
function filesWith(directory: string, text: string): string[] {
  return fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => {
    const file = path.join(directory, name);
    return !name.startsWith('clickhouse') && fs.statSync(file).isFile() && fs.readFileSync(file).includes(text);
  });
}

interface Outcome {
  readonly users: number;
  readonly rows: number;
  readonly deadLetters: number;
  readonly keptSegments: number;
  readonly days: number;
  readonly daysLeft: number;
  readonly pendingSegments: number;
}

test('beside a running instance everything of a user goes, and nothing that is sent again brings him back', async () => {
  const service = await Service.start({ env: { PENSTOCK_WAL_KEEP_MS: '3600000' } });
  const { dataDir } = service;
  try {
    await command(service, "ALTER TABLE penstock.events ADD CONSTRAINT no_bad CHECK event_name != 'bad'");
    await postBulk(service, { events: [...orders(SECRET, 30), ...orders('bob', 5)] });
    await postBulk(service, { events: [event({ event_name: 'bad', user_id: SECRET }), event({ event_name: 'bad' })] });
    await service.settled();
    await postBulk(service, { events: orders('bob', 7) });
    await service.settled();
    assert.deepEqual(await totals(service), [37, 2]);
    assert.equal(filesWith(path.join(dataDir, 'dead-letter'), SECRET).length, 1);
    const kept = path.join(dataDir, 'wal', 'kept');
    const [allKept, keptOfUser] = [fs.readdirSync(kept).length, filesWith(kept, SECRET).length];
    assert.ok(keptOfUser > 0 && allKept > keptOfUser);

    const dry = await penstock(['forget', '--user-id', SECRET, '--user-id', 'nobody', '--no-wait', '--json'], {
      dataDir,
    });
    assert.equal(dry.code, 0, dry.stderr);
    const { rows, users, deadLetters, keptSegments, days } = JSON.parse(dry.stdout) as Outcome;
    // 30 hours from 06:13 on are two days, of one name and of all.
    assert.deepEqual([users, rows, deadLetters, keptSegments, days], [2, 30, 1, keptOfUser, 4]);
    assert.deepEqual(await totals(service), [7, 1]);
    assert.deepEqual(filesWith(dataDir, SECRET), []);
    assert.equal(fs.readdirSync(kept).length, allKept - keptOfUser);
    const audit = await runAudit(dataDir);
    assert.deepEqual([audit.ok, audit.sums.purged, audit.sums.dead], [true, 1, 1]);
    assert.deepEqual(
      await ask(
        service,
        `SELECT name, day, reason FROM (SELECT event_name AS name, day, anyIf(reason, reason != '') AS reason
         FROM penstock.rollup_exceptions GROUP BY event_name, day, request) WHERE reason = 'forget' ORDER BY name, day`,
      ),
      ['', 'order'].flatMap((name) => [20_509, 20_510].map((day) => [name, day, 'forget'])),
    );

    // Refused from some seconds on, by every way in; others are not.
    await until(
      async () => (await postEvent(service, event({ event_name: 'order', user_id: SECRET }))).status === 400,
      'the instance has heard of it',
    );
    const refused = assertRefused(await postEvent(service, event({ user_id: SECRET })), 400, 'user_forgotten');
    assert.deepEqual(refused.body.details, [{ path: '/user_id', message: 'is of a user who is to be forgotten' }]);
    assertAccepted(await postEvent(service, event({ user_id: `${SECRET}.` })));
    const bulk = await postBulk(service, { events: [event(), event({ user_id: SECRET })] });
    assert.deepEqual(
      bulk.body.errors?.map(({ index, code }) => [index, code]),
      [[1, 'user_forgotten']],
    );
    assert.ok(!JSON.stringify(service.lines).includes(SECRET));
  } finally {
    await service.dispose();
  }
});

test('it waits until the instance refuses the user, has shipped what it took before, and the days are rebuilt', async () => {
  const service = await Service.start({ env: { PENSTOCK_FLUSH_INTERVAL_MS: '2000' } });
  const { dataDir } = service;
  try {
    await postBulk(service, { events: orders(SECRET, 10) });
    await service.settled();
    const forgetting = penstock(['forget', '--user-id', SECRET, '--json'], { dataDir });
    // The user goes on sending until he is refused.
    let taken = 10;
    await until(async () => {
      const { status } = await postEvent(
        service,
        event({ event_name: 'order', user_id: SECRET, timestamp: T - taken }),
      );
      if (status === 202) taken += 1;
      return status === 400;
    }, 'he is refused');
    const { code, stdout, stderr } = await forgetting;
    assert.equal(code, 0, stderr);
    const { rows, daysLeft, pendingSegments } = JSON.parse(stdout) as Outcome;
    assert.deepEqual([rows, daysLeft, pendingSegments], [taken, 0, 0]);
    await service.settled();
    assert.deepEqual(await totals(service), [0, 0]);
    assert.ok(!stderr.includes(SECRET) && !stdout.includes(SECRET));
  } finally {
    await service.dispose();
  }
});

const DAY_S = 86_400;

/** Each user has events of every name on every day, some of them in the same minutes; one name is the first user's alone. */
function manyDays(users: readonly string[]): EventRow[] {
  return users.flatMap((user_id, of) =>
    Array.from({ length: 60 }, (_, i) => ({
      event_id: randomUUID(),
      event_name: of === 0 && i % 20 === 0 ? 'hers alone' : (['order', 'view', 'sign in'][i % 3] ?? ''),
      channel: ['web', 'mobile'][(i + of) % 2] ?? '',
      user_id,
      ts: (T + (i % 4) * DAY_S + (i % 7) * 3_600 + (i % 2) * (of + 1)) * 1000,
      received_at: 0,
    })),
  );
}

function asEvents(rows: readonly EventRow[]): Record<string, unknown>[] {
  return rows.map(({ event_id, event_name, channel, user_id, ts }) => ({
    event_id,
    event_name,
    channel,
    user_id,
    timestamp: ts / 1000,
  }));
}

test('when it has waited, every question is answered from rollups as if the user had never been', async () => {
  const service = await Service.start();
  const client = service.clickhouse();
  try {
    const rows = manyDays([SECRET, 'bob', 'carl', 'dora']);
    const others = rows.filter(({ user_id }) => user_id !== SECRET);
    const names = ['order', 'view', 'sign in', 'hers alone'];
    const questions = questionsAbout(names, 'web', [T + 3_601, T + 2 * DAY_S + 4_001]);
    assertAllAccepted(await postBulk(service, { events: asEvents(rows) }), rows.length);
    await settledInRollups(service);
    await assertRollupAnswers(service, rows, questions);

    const { code, stdout, stderr } = await penstock(['forget', '--user-id', SECRET, '--json'], {
      dataDir: service.dataDir,
    });
    assert.equal(code, 0, stderr);
    const outcome = JSON.parse(stdout) as Outcome;
    assert.deepEqual([outcome.rows, outcome.daysLeft], [60, 0]);
    assert.ok(outcome.days > 4, stdout);
    await assertRollupAnswers(service, others, questions);
    assert.deepEqual(await rollupFaults(client, 'penstock'), []);

    // All of it once more: hers is refused, the others' counts as before.
    const again = await postBulk(service, { events: asEvents(rows) });
    assert.deepEqual([again.body.accepted, again.body.rejected], [others.length, 60]);
    assert.ok(again.body.errors?.every(({ code: why }) => why === 'user_forgotten'));
    const single = await postEvent(service, asEvents(rows)[0] ?? {});
    assertRefused(single, 400, 'user_forgotten');
    await settledInRollups(service);
    await assertRollupAnswers(service, others, questions);
    assert.deepEqual(await rollupFaults(client, 'penstock'), []);
  } finally {
    await client.close();
    await service.dispose();
  }
});

function assertAllAccepted({ body, text }: Answered, count: number): void {
  assert.deepEqual([body.accepted, body.rejected], [count, 0], text);
}

test('without an instance what ClickHouse has goes, the log is left and reported, and the list is there at the next start', async () => {
  const dataDir = temporaryDirectory();
  let service = await Service.start({ dataDir });
  try {
    await postBulk(service, { events: orders(SECRET, 10) });
    await service.settled();
    assert.equal(await service.stop(), 0);
    const { code, stdout, stderr } = await penstock(['forget', '--user-id', SECRET], { dataDir });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^1 user forgotten: 10 rows, 0 dead letters and 0 kept segments deleted, 0 days rebuilt\n/);
    assert.match(stdout, /\n2 days left to rebuild, by a running instance; .*\n$/);

    // Taken by an instance that cannot know of the list.
    service = await Service.start({ dataDir, env: { PENSTOCK_CLICKHOUSE_URL: 'http://127.0.0.1:1' } });
    assertAccepted(await postEvent(service, event({ event_name: 'order', user_id: SECRET })));
    await service.kill();
    const again = await penstock(['forget', '--user-id', SECRET], { dataDir });
    assert.equal(again.code, 1, again.stderr);
    assert.match(
      again.stdout,
      /\n! 1 segment of the log with rows of them not shipped yet: they ship when the instance starts/,
    );

    service = await Service.start({ dataDir });
    assertRefused(await postEvent(service, event({ user_id: SECRET })), 400, 'user_forgotten');
    await service.settled();
    assert.deepEqual(await totals(service), [1, 1]);
    assert.equal((await penstock(['forget', '--user-id', SECRET, '--no-wait'], { dataDir })).code, 0);
    assert.deepEqual(await totals(service), [0, 0]);
  } finally {
    await service.dispose();
    await removeDirectory(dataDir);
  }
});
