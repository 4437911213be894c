import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ordinalOf } from '../../src/workers/flusher/wal/format.js';
import { EPOCHS_FILE } from '../../src/workers/flusher/wal/log.js';
import { scanSegment } from '../../src/workers/flusher/wal/segment-reader.js';
import { startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { Gate } from '../support/gate.js';
import { type Answered, assertRefused, event, metrics, postBulk, postEvent } from '../support/requests.js';
import { removeDirectory, Service, temporaryDirectory, until } from '../support/service.js';
import { Tmpfs, tmpfsMissing } from '../support/tmpfs.js';

/** A disk that fills up takes a body whole or not at all, and a start on a full one goes as any other. */

const missing = tmpfsMissing();
const MIB = 1024 * 1024;
const PAGE_BYTES = 4096;

describe('a full disk', missing === undefined ? {} : { skip: `did not run: ${missing}` }, () => {
  let clickhouse: TestClickHouse;
  before(async () => {
    clickhouse = await startTestClickHouse();
  });
  after(() => clickhouse.stop());

  const environment = (url: string, database: string): Record<string, string> => ({
    PENSTOCK_CLICKHOUSE_URL: url,
    PENSTOCK_CLICKHOUSE_USER: clickhouse.user,
    PENSTOCK_CLICKHOUSE_PASSWORD: clickhouse.password,
    PENSTOCK_CLICKHOUSE_DATABASE: database,
    PENSTOCK_CLICKHOUSE_TIMEOUT_MS: '5000',
  });

  const totalOf = async (service: Service, name: string): Promise<number | undefined> =>
    (await metrics(service, { event_name: name })).body.total_events;

  /** Sends the same event until the disk takes it. */
  const sendUntilTaken = (service: Service, name: string): Promise<void> =>
    until(
      async () => (await postEvent(service, event({ event_name: name }))).status === 202,
      'events are taken again',
      60_000,
    );

  test('has taken nothing of a bulk body that it answers 503', async () => {
    const dataDir = temporaryDirectory();
    const wal = path.join(dataDir, 'wal');
    fs.mkdirSync(wal);
    const disk = new Tmpfs(wal, 24);
    let service: Service | undefined;
    try {
      service = await Service.start({ dataDir, env: environment(clickhouse.url, clickhouse.unusedDatabase()) });
      assert.equal((await postEvent(service, event({ event_name: 'before' }))).status, 202);
      await service.settled();
      // Room for a good part of the body, not for all of it.
      disk.fillUpTo(5 * MIB);
      const metadata = { text: 'x'.repeat(8_000) };
      const events = Array.from({ length: 1_250 }, (_, i) =>
        event({ event_name: 'whole_or_not', user_id: `u${i}`, metadata }),
      );
      const body = JSON.stringify(events);
      assert.ok(body.length > 10 * MIB * 0.95);
      assertRefused(await postBulk(service, body), 503, 'disk_full');
      assert.deepEqual(namesInLog(wal, 'whole_or_not'), []);
      disk.makeRoom();
      await sendUntilTaken(service, 'behind');
      await service.settled();
      assert.equal(await totalOf(service, 'whole_or_not'), 0);
      assert.equal(await totalOf(service, 'before'), 1);
      assert.equal(await totalOf(service, 'behind'), 1);
    } finally {
      await service?.dispose();
      disk.unmount();
      await removeDirectory(dataDir);
    }
  });

  test('does not stop a start: what it holds is shipped, and events are taken when there is room', async () => {
    const dataDir = temporaryDirectory();
    const disk = new Tmpfs(dataDir, 12);
    const gate = await Gate.to(clickhouse.url);
    const env = environment(gate.url, clickhouse.unusedDatabase());
    let service: Service | undefined;
    try {
      service = await Service.start({ dataDir, env });
      const sent: Answered[] = [];
      for (let i = 0; i < 20; i += 1)
        sent.push(await postEvent(service, event({ event_name: 'held', user_id: `u${i}` })));
      assert.deepEqual(new Set(sent.map(({ status }) => status)), new Set([202]));
      await service.kill();
      fillLastPage(path.join(dataDir, 'wal', EPOCHS_FILE));
      disk.fillUpTo(0);
      assert.equal(disk.freeBytes, 0);
      await gate.open();
      service = await Service.start({ dataDir, env });
      const running = service;
      await until(async () => (await totalOf(running, 'held')) === 20, 'the backlog is shipped', 60_000);
      assertRefused(await postEvent(running, event({ event_name: 'behind' })), 503, 'disk_full');
      disk.makeRoom();
      await sendUntilTaken(running, 'behind');
      await running.settled();
      assert.equal(await totalOf(running, 'behind'), 1);
      assert.equal(await totalOf(running, 'held'), 20);
      assert.equal(await running.stop(), 0);
    } finally {
      await service?.dispose();
      await gate.close();
      disk.unmount();
      await removeDirectory(dataDir);
    }
  });
});

/** A full disk still takes what goes into the last page of a file: adds empty lines until nothing does. */
function fillLastPage(file: string): void {
  const { size } = fs.statSync(file);
  fs.appendFileSync(file, '\n'.repeat(PAGE_BYTES - (size % PAGE_BYTES)));
}

/** Segments with intact frames in which this text stands. */
function namesInLog(wal: string, text: string): string[] {
  const segments = fs.readdirSync(wal).filter((name) => ordinalOf(name) !== undefined);
  return segments.filter((name) => {
    let isThere = false;
    scanSegment(path.join(wal, name), (payload) => {
      isThere ||= payload.includes(text);
    });
    return isThere;
  });
}
