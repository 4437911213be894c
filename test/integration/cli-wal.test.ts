import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runAudit } from '../support/audit.js';
import { backlog } from '../support/backlog.js';
import { penstock } from '../support/command.js';
import { EventSource } from '../support/event-source.js';
import { Producer } from '../support/producer.js';
import { removeDirectory, Service, temporaryDirectory } from '../support/service.js';
import { Tally } from '../support/tally.js';
import { isExact, verify } from '../support/verify.js';

/** The log of an instance that never comes back, read and shipped by the command through another instance's ClickHouse. */

const SEED = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

test('a dead instance is replayed once, also where it had been shipped in fact; what is read of it before is all of it', async (t) => {
  t.diagnostic(`seed ${SEED}`);
  const [dead, copy] = [temporaryDirectory(), temporaryDirectory()];
  const tally = new Tally(new EventSource({ seed: SEED, count: 8_000, users: 2_000 }));
  const service = await Service.start();
  const client = service.clickhouse();
  const env = { PENSTOCK_CLICKHOUSE_URL: service.clickhouseUrl };
  const exact = async (): Promise<void> => {
    const verification = await verify({ url: service.url, clickhouse: client, tally });
    assert.ok(isExact(verification), JSON.stringify(verification, null, 2));
  };
  try {
    await backlog(dead, new Producer(tally), { singles: [0, 2_000], bulk: [2_000, 8_000] });
    fs.cpSync(dead, copy, { recursive: true, filter: (file) => !path.basename(file).startsWith('lock.') });

    const stat = await penstock(['wal', 'stat', dead, '--json'], { dataDir: dead });
    const { pending } = JSON.parse(stat.stdout) as { pending: { rows: number; segments: number } };
    assert.ok(pending.rows >= 8_000 && stat.code === 0, stat.stdout);
    const verified = await penstock(['wal', 'verify', path.join(dead, 'wal')], { dataDir: dead });
    assert.ok(verified.code === 0 && verified.stdout.endsWith('all intact\n'), verified.stdout);
    const dumped = await penstock(['wal', 'dump', '--events', dead], { dataDir: dead });
    const ids = dumped.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { id: string }).id);
    assert.equal(new Set(ids).size, pending.rows);

    const kept = await penstock(['wal', 'replay', dead, '--keep'], { dataDir: service.dataDir });
    assert.equal(kept.code, 0, kept.stderr);
    assert.match(kept.stdout, /segments? shipped: [\d,]+ rows in .* rows\/s\)\n$/);
    await exact();
    const after = await runAudit(dead, { env, deep: true });
    assert.ok(after.ok && after.sums.stored === pending.rows && after.deep?.missing === 0, JSON.stringify(after));
    assert.equal(after.deep.events, pending.rows);

    // The same directory once more, as if the volume had been restored from before.
    const again = await penstock(['wal', 'replay', copy, '--json'], { dataDir: copy, env });
    assert.equal(again.code, 0, again.stderr);
    const result = JSON.parse(again.stdout) as { rows: number; left: number };
    assert.deepEqual([result.rows, result.left], [pending.rows, 0]);
    await exact();
    assert.deepEqual(
      fs.readdirSync(path.join(copy, 'wal')).filter((name) => name.endsWith('.wal')),
      [],
    );
    assert.ok((await runAudit(copy, { env })).ok);
  } finally {
    await client.close();
    await service.dispose();
    await Promise.all([removeDirectory(dead), removeDirectory(copy)]);
  }
});

test('a directory that a process has is not replayed, and the process is named', async () => {
  const service = await Service.start();
  try {
    const refused = await penstock(['wal', 'replay'], { dataDir: service.dataDir });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, new RegExp(`in use by the process ${service.pid}`));
  } finally {
    await service.dispose();
  }
});

test('commands reach the ClickHouse of a running instance with the password that it made, and show no secret', async () => {
  const env = { PENSTOCK_CLICKHOUSE_PASSWORD: '' };
  const service = await Service.start({ env });
  const { dataDir } = service;
  try {
    const password = fs.readFileSync(path.join(dataDir, 'clickhouse', 'password'), 'utf8').trim();
    const outputs = [
      await penstock(['migrate', 'status'], { dataDir, env }),
      await penstock(['audit'], { dataDir, env }),
      await penstock(['dead-letter', 'requeue', '--all'], { dataDir, env }),
    ];
    for (const { code, stdout, stderr } of outputs) {
      assert.equal(code, 0, stderr);
      assert.ok(!`${stdout}${stderr}`.includes(password));
    }
    const down = await penstock(['migrate', 'down'], { dataDir, env });
    assert.equal(down.code, 1);
    assert.match(down.stderr, new RegExp(`the process ${service.pid} runs on the data directory`));
    assert.equal(await service.stop(), 0);
    assert.equal((await penstock(['audit'], { dataDir, env })).code, 0, 'on its own as well');
  } finally {
    await service.dispose();
  }
});
