import { execFile, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { FaultProxy } from '../fault-proxy.js';
import { type Service, until } from '../service.js';
import { externally, type Fault, type FaultRun } from './fault-run.js';
import { ready } from './processes.js';

/** A disk that is full, and one that fails. */

const execute = promisify(execFile);

/** Smaller than one segment may be. */
const DISK_MIB = { ofOthers: 24, ofTheLog: 6 } as const;

function mountMissing(): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'mounting a small tmpfs needs root on Linux';
  const directory = fs.mkdtempSync('/tmp/penstock-mount-');
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory]);
  if (status === 0) spawnSync('umount', [directory]);
  fs.rmSync(directory, { recursive: true });
  return status === 0 ? undefined : `no tmpfs can be mounted: ${String(stderr).trim()}`;
}

/** A data directory whose log stands on a tmpfs of this size. */
async function smallDisk(run: FaultRun, mib: number): Promise<string> {
  const dataDir = run.directory();
  const wal = path.join(dataDir, 'wal');
  fs.mkdirSync(wal);
  await execute('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', wal]);
  run.cleanUp(async () => {
    await execute('umount', ['-l', wal]);
  });
  return dataDir;
}

function refusals(run: FaultRun): number {
  return run.producer.answers.get(503) ?? 0;
}

/**
 * While the disk is full: 503 with its code and a Retry-After, and readiness says so. What the log can give back for itself may
 * make room in between: `fill` takes it again. False where the load is over before this was seen: it had room after all.
 */
async function expectDiskFull(
  run: FaultRun,
  service: Service,
  isOver: () => boolean,
  fill: () => void,
): Promise<boolean> {
  // Refused for its content where it is not refused for the disk: nothing that would have to be counted.
  const body = '{"event_name":"page_view","channel":"web","user_id":"","timestamp":1}';
  let isRefused = false;
  let refusal = '';
  let retryAfter = 0;
  await until(
    async () => {
      fill();
      const answer = await fetch(`${service.url}/events`, { method: 'POST', body });
      const readiness = await fetch(`${service.url}/ready`);
      refusal = await answer.text();
      retryAfter = Number(answer.headers.get('retry-after'));
      isRefused = answer.status === 503 && readiness.status === 503 && (await readiness.text()).includes('"wal"');
      return isRefused || isOver();
    },
    'events are refused, and readiness with them',
    60_000,
  );
  if (!isRefused) return false;
  run.expect(refusal.includes('"code":"disk_full"'), `a full disk is answered ${refusal}`);
  run.expect(retryAfter > 0, 'disk_full has no Retry-After');
  return true;
}

const othersFillIt: Fault = {
  name: 'disk full: others have filled it, and make room',
  short: { rounds: 1, events: 6_000 },
  long: { rounds: 15, events: 8_000 },
  missing: mountMissing,
  run: async (run) => {
    const dataDir = await smallDisk(run, DISK_MIB.ofOthers);
    const clickhouse = await run.clickhouse();
    const service = await run.start({ dataDir, env: externally(clickhouse) });
    run.producer.url = service.url;
    const ballast = path.join(dataDir, 'wal', 'ballast.tmp');
    let full = 0;
    for (let round = 0; round < run.rounds; round += 1) {
      const before = refusals(run);
      const over = new AbortController();
      const sent = (async () => {
        await run.producer.run(run.work());
        over.abort();
      })();
      const struck = (async () => {
        // Spares need no room: with enough of them, a round may pass without a refusal.
        const isFelt = (): boolean => {
          fillUp(ballast);
          return refusals(run) > before || over.signal.aborted;
        };
        await until(isFelt, 'the producer was refused or is done', 120_000);
        const isOver = (): boolean => over.signal.aborted;
        if (await expectDiskFull(run, service, isOver, () => fillUp(ballast))) full += 1;
        fs.rmSync(ballast);
      })();
      await Promise.all([sent, struck]);
      await ready(service);
    }
    run.outcome.figures['full'] = full;
    run.expect(full > 0, 'the service never felt that the disk was full');
    run.outcome.figures['refused'] = refusals(run);
    await run.conclude(service, clickhouse);
  },
};

/** Writes until the disk takes no more. */
function fillUp(file: string): void {
  const fd = fs.openSync(file, 'a');
  try {
    for (const size of [1024 * 1024, 4096]) {
      const piece = Buffer.alloc(size);
      try {
        while (fs.writeSync(fd, piece) === size);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
      }
    }
  } finally {
    fs.closeSync(fd);
  }
}

const logFillsIt: Fault = {
  name: 'disk full: the log has filled it while ClickHouse was away',
  short: { rounds: 1, events: 75_000 },
  long: { rounds: 4, events: 140_000 },
  missing: mountMissing,
  run: async (run) => {
    const dataDir = await smallDisk(run, DISK_MIB.ofTheLog);
    const clickhouse = await run.clickhouse();
    const proxy = await FaultProxy.to(clickhouse.url);
    run.cleanUp(() => proxy.close());
    const service = await run.start({ dataDir, env: externally(clickhouse, proxy.url) });
    run.producer.url = service.url;
    for (let round = 0; round < run.rounds; round += 1) {
      await proxy.close();
      const before = refusals(run);
      const sent = run.producer.run(run.work());
      const full = (async () => {
        await until(() => refusals(run) > before, 'the log has filled the disk', 120_000);
        await expectDiskFull(
          run,
          service,
          () => false,
          () => undefined,
        );
        await proxy.open();
      })();
      await Promise.all([sent, full]);
      await ready(service);
    }
    run.outcome.figures['refused'] = refusals(run);
    await run.conclude(service, clickhouse);
  },
};

const FIU = '/usr/lib/fiu';
const EIO = 5;

function fiuMissing(): string | undefined {
  const there = fs.existsSync(`${FIU}/fiu_posix_preload.so`) && spawnSync('fiu-ctrl', ['-h']).error === undefined;
  return there ? undefined : 'fiu-run is not installed (Debian package fiu-utils)';
}

/** libfiu stands between Node and libc: the calls of the log, and no others, are `pwritev` and `fdatasync`. */
function fails(what: string, point: string, short: Fault['short'], long: Fault['long']): Fault {
  return {
    name: `EIO on ${what}`,
    short,
    long,
    missing: fiuMissing,
    run: async (run) => {
      const clickhouse = await run.clickhouse();
      const dataDir = run.directory();
      const fifo = path.join(dataDir, 'fiu');
      const service = await run.start({
        dataDir,
        env: {
          ...externally(clickhouse),
          LD_PRELOAD: `${FIU}/fiu_run_preload.so ${FIU}/fiu_posix_preload.so`,
          FIU_CTRL_FIFO: fifo,
          FIU_ENABLE: '',
        },
      });
      const control = (command: string) => execute('fiu-ctrl', ['-f', fifo, '-c', command, String(service.pid)]);
      run.producer.url = service.url;
      for (let round = 0; round < run.rounds; round += 1) {
        await run.underLoad(async () => {
          const before = failures(service);
          const probability = (0.1 + 0.9 * run.random()).toFixed(2);
          await control(`enable_random name=posix/io/${point},probability=${probability},failinfo=${EIO}`);
          await until(() => failures(service) > before, 'the disk has failed', 60_000);
          await run.aMoment();
          await control(`disable name=posix/io/${point}`);
        });
        await ready(service);
      }
      run.outcome.figures['refused'] = refusals(run);
      await run.conclude(service, clickhouse);
    },
  };
}

function failures({ lines }: Service): number {
  return lines.filter(({ msg }) => msg === 'the log cannot be written: events are refused').length;
}

export const DISK_FAULTS: readonly Fault[] = [
  othersFillIt,
  logFillsIt,
  fails('write', 'rw/pwritev', { rounds: 2, events: 3_000 }, { rounds: 30, events: 5_000 }),
  fails('sync', 'sync/fdatasync', { rounds: 2, events: 3_000 }, { rounds: 30, events: 5_000 }),
];
