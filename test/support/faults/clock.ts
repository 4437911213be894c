import fs from 'node:fs';
import path from 'node:path';
import { externally, type Fault } from './fault-run.js';

/** The host's clock is set under load; libfaketime reads the offset from a file at every call. */

const LIBRARIES = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1',
];
/** Seconds. The last brings it back. */
const JUMPS = [3_600, -86_400, 30, -2, 40 * 86_400, -3] as const;

const library = LIBRARIES.find((file) => fs.existsSync(file));

const jumps: Fault = {
  name: 'the clock jumps, forwards and backwards',
  short: { rounds: 3, events: 2_000 },
  long: { rounds: 24, events: 5_000 },
  missing: () => (library === undefined ? 'libfaketime is not installed (Debian package faketime)' : undefined),
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const dataDir = run.directory();
    const file = path.join(dataDir, 'faketime');
    const set = (seconds: number): void => {
      // At once: a reader must not find half of it.
      fs.writeFileSync(`${file}.new`, `${seconds < 0 ? '' : '+'}${seconds}`);
      fs.renameSync(`${file}.new`, file);
    };
    set(0);
    const service = await run.start({
      dataDir,
      env: {
        ...externally(clickhouse),
        LD_PRELOAD: library ?? '',
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        // Events of now must not lie in a future that is too far off when the clock goes back.
        PENSTOCK_FUTURE_TOLERANCE_S: String(90 * 86_400),
      },
    });
    run.producer.url = service.url;
    for (let round = 0; round < run.rounds; round += 1) {
      await run.underLoad(async () => {
        set(JUMPS[round % JUMPS.length] ?? 0);
        await run.aMoment();
        if (run.random() < 0.5) set(0);
      });
    }
    set(0);
    await run.conclude(service, clickhouse);
  },
};

export const CLOCK_FAULTS: readonly Fault[] = [jumps];
