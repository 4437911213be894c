import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runAudit } from '../support/audit.js';
import { penstock } from '../support/command.js';
import { EventSource } from '../support/event-source.js';
import { runWithKills } from '../support/kills.js';
import { Producer } from '../support/producer.js';
import { removeDirectory, Service, temporaryDirectory } from '../support/service.js';
import { Tally } from '../support/tally.js';

/** The arithmetic over epochs holds whatever was killed, beside a running instance, and does not hold where a file has gone. */

const SEED = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const NO_CLICKHOUSE = { PENSTOCK_CLICKHOUSE_URL: 'http://127.0.0.1:1' };

function segmentsIn(dataDir: string): string[] {
  const directory = path.join(dataDir, 'wal');
  const names = fs.readdirSync(directory).filter((name) => name.endsWith('.wal'));
  return names.toSorted().map((name) => path.join(directory, name));
}

async function sendBulk(service: Service, first: number, count: number): Promise<void> {
  const events = Array.from({ length: count }, (_, i) => ({
    event_name: `it's \\ a\u0001 "name"`,
    channel: 'web',
    user_id: `user ${first + i}`,
    timestamp: 1_600_000_000 + first + i,
  }));
  const response = await fetch(`${service.url}/events/bulk`, { method: 'POST', body: JSON.stringify(events) });
  assert.equal(response.status, 202);
}

test('the audit is clean after kills and while segments are written, shipped and written over, and disturbs nothing', async (t) => {
  t.diagnostic(`seed ${SEED}`);
  const dataDir = temporaryDirectory();
  const producer = new Producer(new Tally(new EventSource({ seed: SEED, count: 12_000, users: 2_000 })));
  let service = await Service.start({ dataDir });
  try {
    service = await runWithKills({
      service,
      restart: {},
      producer,
      work: { singles: [0, 2_000], bulk: [2_000, 12_000] },
      kills: 2,
    });
    let sent = 0;
    const auditing = { isOver: false };
    const load = (async () => {
      for (; !auditing.isOver; sent += 50) await sendBulk(service, sent, 50);
    })();
    for (let i = 0; i < 3; i += 1) {
      const report = await runAudit(dataDir);
      assert.deepEqual([report.ok, report.lost], [true, 0], JSON.stringify(report));
      const verified = await penstock(['wal', 'verify'], { dataDir });
      assert.equal(verified.code, 0, verified.stdout);
    }
    auditing.isOver = true;
    await load;
    await service.settled();
    const { ok, epochs, sums } = await runAudit(dataDir);
    assert.ok(ok && epochs.length >= 2, 'each start is an epoch');
    assert.equal(sums.synced, sums.stored);
    assert.ok(sums.stored >= 12_000 + sent);
  } finally {
    producer.url = undefined;
    await service.dispose();
    await removeDirectory(dataDir);
  }
});

test('a segment that vanished is a gap of exactly its events, in the middle or at the end, and the rest is accounted for', async () => {
  const dataDir = temporaryDirectory();
  try {
    // Without a ClickHouse each life of the instance leaves a segment.
    for (const life of [0, 1, 2]) {
      const away = await Service.start({ dataDir, env: NO_CLICKHOUSE });
      await sendBulk(away, life * 100, 100);
      await away.kill();
    }
    const [, middle = ''] = segmentsIn(dataDir);
    fs.rmSync(middle);
    const stopped = await runAudit(dataDir).catch((error: unknown) => error);
    assert.ok(stopped instanceof Error && stopped.message.includes('segments'), 'no table yet: that is said');

    const service = await Service.start({ dataDir });
    await service.settled();
    const { ok, lost, sums } = await runAudit(dataDir);
    assert.deepEqual([ok, lost, sums.stored], [false, 100, 200]);
    const text = await penstock(['audit'], { dataDir });
    assert.match(text.stdout, /! epoch \d+: sequence numbers 0 to 99 nowhere to be found/);
    await service.dispose();
  } finally {
    await removeDirectory(dataDir);
  }
});

test('--deep finds what has gone from ClickHouse behind the ledger, and takes a dead letter for what it is', async () => {
  const service = await Service.start({ env: { PENSTOCK_WAL_KEEP_MS: '3600000' } });
  const client = service.clickhouse();
  const { dataDir } = service;
  try {
    await client.command({ query: "ALTER TABLE penstock.events ADD CONSTRAINT c CHECK user_id != 'user 7'" });
    await sendBulk(service, 0, 6_000);
    await service.settled();
    const clean = await runAudit(dataDir, { deep: true });
    assert.deepEqual([clean.ok, clean.sums.dead, clean.deep?.events, clean.deep?.missing], [true, 1, 6_000, 0]);

    await client.command({
      query: "ALTER TABLE penstock.events DELETE WHERE user_id IN ('user 8', 'user 5999') SETTINGS mutations_sync = 2",
    });
    assert.ok((await runAudit(dataDir)).ok, 'the ledger does not know');
    const { ok, deep } = await runAudit(dataDir, { deep: true });
    assert.deepEqual([ok, deep?.missing], [false, 2]);

    // What was deleted on purpose is not missing.
    await client.command({ query: "INSERT INTO penstock.forgotten_users (hash) SELECT sipHash128('user 8')" });
    const one = await runAudit(dataDir, { deep: true });
    assert.deepEqual([one.ok, one.deep?.missing], [false, 1]);
    const none = await runAudit(dataDir, { deep: true, env: { PENSTOCK_RETENTION_DAYS: '30' } });
    assert.deepEqual([none.ok, none.deep?.missing], [true, 0]);
  } finally {
    await client.close();
    await service.dispose();
  }
});

test('damage is set aside with the numbers that can still be read', async () => {
  const dataDir = temporaryDirectory();
  try {
    const away = await Service.start({ dataDir, env: { ...NO_CLICKHOUSE, PENSTOCK_ENCODER_THREADS: '1' } });
    for (const part of [0, 1, 2]) await sendBulk(away, part * 100, 100);
    await away.stop();
    const [file = ''] = segmentsIn(dataDir);
    const dump = await penstock(['wal', 'dump', '--json'], { dataDir });
    const frames = dump.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { offset: number; rows: number });
    const second = frames[1];
    assert.ok(second && frames.length >= 3, dump.stdout);
    const bytes = fs.readFileSync(file);
    bytes.writeUInt8(bytes.readUInt8(second.offset + 100) ^ 1, second.offset + 100);
    fs.writeFileSync(file, bytes);
    const verified = await penstock(['wal', 'verify'], { dataDir });
    assert.equal(verified.code, 1);
    assert.match(verified.stdout, new RegExp(`is damaged at byte ${second.offset}`));

    const service = await Service.start({ dataDir });
    await service.settled();
    const { ok, sums } = await runAudit(dataDir);
    assert.deepEqual([ok, sums.aside, sums.stored], [true, second.rows, 300 - second.rows]);
    await service.dispose();
  } finally {
    await removeDirectory(dataDir);
  }
});
