import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createFlow } from '../../src/shared/channel.js';
import { createCounters } from '../../src/shared/counters.js';
import { Sink } from '../../src/shared/rowbinary.js';
import { EventEncoder } from '../../src/workers/encoder/event-encoder.js';
import { nodeFileSystem } from '../../src/workers/flusher/wal/file-system.js';
import { ordinalOf } from '../../src/workers/flusher/wal/format.js';
import { Log } from '../../src/workers/flusher/wal/log.js';
import { silentLog, startTestClickHouse, type TestClickHouse } from '../support/clickhouse.js';
import { assertAccepted, event, metrics, postEvent, send } from '../support/requests.js';
import { removeDirectory, Service, temporaryDirectory, until } from '../support/service.js';

let clickhouse: TestClickHouse;
before(async () => {
  clickhouse = await startTestClickHouse();
});
after(() => clickhouse.stop());

const PRELOAD = new URL('../support/bad-sectors.js', import.meta.url).href;

/** A log as a process leaves it that was killed: a segment with one event for each name. Returns the segments' files. */
function leaveLog(wal: string, names: readonly string[]): string[] {
  const encoder = new EventEncoder({ channels: ['web'], futureToleranceS: 60 });
  const log = new Log(nodeFileSystem, wal, createFlow(createCounters()), silentLog);
  for (const name of names) {
    const text = Buffer.from(JSON.stringify(event({ event_name: name })));
    const sink = new Sink(Buffer.alloc(65_536));
    assert.ok(encoder.encode(text, 0, text.length, Date.now() * 1000, '', sink) instanceof Uint8Array);
    log.append([sink.buffer.subarray(0, sink.at)], sink.at, 1);
    log.seal();
  }
  const segments = fs.readdirSync(wal).filter((name) => ordinalOf(name) !== undefined);
  assert.equal(segments.length, names.length);
  return segments.toSorted();
}

test('a segment whose sectors cannot be read is set aside: the process stays, at this start and the next, and all others ship', async () => {
  const dataDir = temporaryDirectory();
  const wal = path.join(dataDir, 'wal');
  fs.mkdirSync(wal);
  let service: Service | undefined;
  const names = ['first', 'second', 'third'];
  const total = async (running: Service, name: string): Promise<number | undefined> =>
    (await metrics(running, { event_name: name })).body.total_events;
  try {
    const files = leaveLog(wal, names);
    // The last one, too: a start reads it to see how far the process before it came.
    const [first = '', , last = ''] = files;
    const env = {
      BAD_SECTORS_IN: `${first},${last}`,
      PENSTOCK_CLICKHOUSE_URL: clickhouse.url,
      PENSTOCK_CLICKHOUSE_USER: clickhouse.user,
      PENSTOCK_CLICKHOUSE_PASSWORD: clickhouse.password,
      PENSTOCK_CLICKHOUSE_DATABASE: clickhouse.unusedDatabase(),
    };
    for (const name of ['fourth', 'fifth']) {
      service = await Service.start({ dataDir, env, nodeArgs: ['--import', PRELOAD] });
      const running = service;
      assertAccepted(await postEvent(running, event({ event_name: name })));
      await until(async () => (await total(running, name)) === 1, 'new events are shipped', 60_000);
      const totals = await Promise.all(names.map((each) => total(running, each)));
      assert.deepEqual(totals, [0, 1, 0]);
      assert.deepEqual(fs.readdirSync(path.join(wal, 'damaged')).toSorted(), [first, last].toSorted());
      const ready = await send(`${running.url}/ready`);
      assert.equal(ready.status, 200, ready.text);
      assert.equal(await running.stop(), 0);
    }
  } finally {
    await service?.dispose();
    await removeDirectory(dataDir);
  }
});
