import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { MessageChannel, Worker } from 'node:worker_threads';
import {
  CHANNEL_SLOT,
  type ChannelMemory,
  createChannel,
  createFlow,
  FLOW_SLOT,
  type LogMessage,
} from '../../../../src/shared/channel.js';
import { Counters, createCounters } from '../../../../src/shared/counters.js';
import { Doorbell } from '../../../../src/shared/doorbell.js';
import type { BusyLogData } from '../../../support/busy-log-thread.js';
import { until } from '../../../support/service.js';
import { temporaryDirectory } from '../../../support/wal.js';

interface BusyLog {
  readonly counters: Counters;
  readonly busy: ChannelMemory;
  readonly tell: (message: LogMessage) => void;
}

/** A log thread that finds so many rows more whenever it has synced some; it begins when it is told of the channel. */
function startBusyLog(t: TestContext, options: Pick<BusyLogData, 'rowsEach' | 'commitDelayUs'>): BusyLog {
  const flow = createFlow(createCounters());
  const slots = new Int32Array(flow.slots);
  const [toLog, toMain, toShipper] = [new MessageChannel(), new MessageChannel(), new MessageChannel()];
  const busy = createChannel(1024, 10);
  const data: BusyLogData = {
    ...options,
    flow,
    walDirectory: temporaryDirectory(t),
    flushIntervalMs: 60_000,
    walMaxBytes: 2 ** 40,
    logLevel: 'error',
    messages: toLog.port2,
    wakeMain: toMain.port1,
    wakeShipper: toShipper.port1,
    busy,
  };
  const worker = new Worker(new URL('../../../support/busy-log-thread.js', import.meta.url), {
    workerData: data,
    transferList: [data.messages, data.wakeMain, data.wakeShipper],
  });
  t.after(async () => {
    await worker.terminate();
    for (const { port1, port2 } of [toLog, toMain, toShipper]) {
      port1.close();
      port2.close();
    }
  });
  const logBell = new Doorbell(flow.logBell);
  const tell = (message: LogMessage): void => {
    toLog.port1.postMessage(message);
    Atomics.add(slots, FLOW_SLOT.logMessages, 1);
    logBell.ring();
  };
  return { counters: new Counters(flow.counters), busy, tell };
}

test('a dead encoder’s channel is closed although another keeps the log busy without a pause', async (t) => {
  const { counters, busy, tell } = startBusyLog(t, { rowsEach: 1, commitDelayUs: 0 });
  const dead = createChannel(1024, 10);
  tell({ type: 'attach', id: 1, channel: busy });
  tell({ type: 'attach', id: 2, channel: dead });
  await until(() => counters.get('walCommits') > 10, 'the log is busy', 60_000);
  tell({ type: 'close', id: 2 });
  const closed = (): boolean => Atomics.load(new Int32Array(dead.slots), CHANNEL_SLOT.closed) === 1;
  await until(closed, 'the channel of the dead is closed', 60_000);
  const commits = counters.get('walCommits');
  await until(() => counters.get('walCommits') > commits, 'the log is still busy', 60_000);
  assert.equal(Atomics.load(new Int32Array(busy.slots), CHANNEL_SLOT.closed), 0);
});

test('behind a commit of a few events the next ones gather; of one or two, or of many, nothing waits', async (t) => {
  const commitDelayUs = 20_000;
  const few = startBusyLog(t, { rowsEach: 4, commitDelayUs });
  const from = performance.now();
  few.tell({ type: 'attach', id: 1, channel: few.busy });
  await until(() => few.counters.get('walCommits') >= 10, 'ten commits', 60_000);
  assert.ok(performance.now() - from >= (9 * commitDelayUs) / 1000);
  // With a pause these would take hours. The first group has what the two or three syncs of a log's beginning have brought.
  for (const rowsEach of [1, 65]) {
    const { counters, busy, tell } = startBusyLog(t, { rowsEach, commitDelayUs: 3_600_000_000 });
    tell({ type: 'attach', id: 1, channel: busy });
    await until(() => counters.get('walCommits') >= 10, 'ten commits', 60_000);
  }
});
