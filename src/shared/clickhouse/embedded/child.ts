/**
 * The embedded server's process: `clickhouse local` out of libchdb.so, made a server by `SYSTEM START LISTEN`.
 * Run by launcher.ts as `node child.js CONFIG DATA_PATH LIBRARY`, with a pipe as standard input and an IPC channel.
 *
 * Invariant: it lives exactly as long as its parent wants it, or is there. The last statement reads standard input to
 * its end, which comes when the parent closes the pipe or dies in whatever way; after it ClickHouse shuts down in order.
 * Signals that a terminal or a process manager sends to the whole group are therefore ignored: the parent decides.
 */
import { createRequire } from 'node:module';
import { yieldToRequests } from '../../priority.js';

/**
 * How long an orphan may take over its orderly end. A new parent on the same directory waits longer than this
 * (DIRECTORY_WAIT_MS in launch-policy.ts).
 */
const ORPHAN_GRACE_MS = 15_000;

/** HTTP alone: without it the native protocol (port 9000 by default) would open too, where nothing guards `default`. */
const STATEMENTS = 'SYSTEM START LISTEN HTTP; SELECT count() FROM parent_pipe FORMAT Null';

/** What is used of `ffi-rs`; spelt out here so that this compiles where the optional package is left out. */
interface Ffi {
  readonly DataType: { readonly External: number; readonly I32: number; readonly StringArray: number };
  open(library: { readonly library: string; readonly path: string }): void;
  load(call: {
    readonly library: string;
    readonly funcName: string;
    readonly retType: number;
    readonly paramsType: readonly number[];
    readonly paramsValue: readonly unknown[];
    readonly runInNewThread: true;
  }): Promise<unknown>;
}

const [configPath, dataPath, libraryPath] = process.argv.slice(2);
if (configPath === undefined || dataPath === undefined || libraryPath === undefined) {
  throw new Error('usage: child.js CONFIG DATA_PATH LIBRARY');
}

process.title = 'penstock-clickhouse';
// Before ClickHouse starts its threads, from one of those that there are.
yieldToRequests('process');
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => setTimeout(() => process.kill(process.pid, 'SIGKILL'), ORPHAN_GRACE_MS));

const ffi = createRequire(import.meta.url)('ffi-rs') as Ffi;
ffi.open({ library: 'chdb', path: libraryPath });
const argv = [
  'clickhouse',
  `--config-file=${configPath}`,
  `--path=${dataPath}`,
  '--log-level=warning',
  // `file('/dev/stdin')` would not do: Node's pipe is a socket, which cannot be opened by path.
  '--table=parent_pipe',
  '--structure=line String',
  '--input-format=LineAsString',
  `--query=${STATEMENTS}`,
];
// The result is left alone: asking it for its error is a segmentation fault. Errors are on standard error.
await ffi.load({
  library: 'chdb',
  funcName: 'query_stable_v2',
  retType: ffi.DataType.External,
  paramsType: [ffi.DataType.I32, ffi.DataType.StringArray],
  paramsValue: [argv.length, argv],
  runInNewThread: true,
});
process.exit(0);
