/**
 * The services that are measured, each a process of its own with all that it needs: started, watched, ended. Penstock is
 * started as `npm start` starts it, on free ports and in a temporary data directory, with its embedded ClickHouse.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { childrenOf, cpuMs, memoryMiB, threadCpuMs } from './processes.js';

const START_MS = 60_000;
const STOP_MS = 30_000;
const at = (path) => fileURLToPath(new URL(path, import.meta.url));
/** Of the embedded ClickHouse: whoever looks into a data directory that was kept needs them again. */
export const CLICKHOUSE = { user: 'default', password: 'bench', database: 'penstock' };

/**
 * @typedef {object} Running
 * @property {string} name
 * @property {string} url
 * @property {number} [pid] absent: elsewhere
 * @property {{ url: string, user: string, password: string, database: string }} [clickhouse]
 * @property {() => number[]} [children] processes of its ClickHouse
 * @property {() => object} snapshot CPU and memory up to now
 * @property {() => object} [state] what is looked at once a second
 * @property {() => Promise<void>} stop
 */

/** A data directory that goes when the benchmark does. */
export function temporaryDataDir(dataRoot) {
  mkdirSync(dataRoot, { recursive: true });
  const dataDir = mkdtempSync(join(dataRoot, 'bench-'));
  const onExit = () => rmSync(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  process.once('exit', onExit);
  const remove = () => {
    process.removeListener('exit', onExit);
    onExit();
  };
  return { dataDir, remove };
}

/**
 * On a data directory of its own, which goes with it, or on `kept`, which stays.
 * @param {{ settings: Record<string, string>, dataRoot: string, kept?: string }} how
 * @returns {Promise<Running>}
 */
export async function startPenstock({ settings, dataRoot, kept }) {
  const { dataDir, remove } = kept === undefined ? temporaryDataDir(dataRoot) : { dataDir: kept, remove: () => {} };
  const env = {
    ...withoutPenstock(process.env),
    PENSTOCK_DATA_DIR: dataDir,
    PENSTOCK_PORT: '0',
    PENSTOCK_ADMIN_PORT: '0',
    PENSTOCK_CLICKHOUSE_USER: CLICKHOUSE.user,
    PENSTOCK_CLICKHOUSE_PASSWORD: CLICKHOUSE.password,
    ...settings,
  };
  const preload = `--require ${JSON.stringify(at('name-thread.js'))}`;
  env.NODE_OPTIONS = [process.env.NODE_OPTIONS, preload].filter(Boolean).join(' ');
  try {
    const { child, listening, stop } = await startProcess('penstock', [at('../../bin/penstock')], env);
    const clickhouse = { url: listening.clickhouseUrl, ...CLICKHOUSE };
    return {
      name: 'penstock',
      url: listening.url,
      adminUrl: listening.adminUrl,
      pid: child.pid,
      dataDir,
      clickhouse,
      children: () => childrenOf(child.pid),
      snapshot: () => snapshotOf(child.pid, childrenOf(child.pid)),
      state: () => ({ memoryMiB: memoryMiB(child.pid).now, logMiB: directoryMiB(join(dataDir, 'wal')) }),
      stop: () => stop().finally(remove),
    };
  } catch (error) {
    remove();
    throw error;
  }
}

/**
 * A service of bench/peers. They tell where they listen as Penstock does.
 * @returns {Promise<Running>}
 */
export async function startPeer(name, file, args, { clickhouse, dataRoot, children = () => [] }) {
  const env = {
    ...withoutPenstock(process.env),
    NODE_ENV: 'production',
    BENCH_CLICKHOUSE: JSON.stringify(clickhouse),
    BENCH_DATA_ROOT: dataRoot,
  };
  const { child, listening, stop } = await startProcess(name, [process.execPath, at(`../peers/${file}`), ...args], env);
  return {
    name,
    url: listening.url,
    pid: child.pid,
    clickhouse,
    children,
    snapshot: () => snapshotOf(child.pid, children()),
    stop,
  };
}

/** A service that runs already, here or elsewhere: only what HTTP shows is measured. */
export function serviceElsewhere(url) {
  return { name: 'penstock', url: new URL(url).origin, snapshot: () => ({}), stop: async () => {} };
}

/** Of the files in a directory, those in directories below left out. */
function directoryMiB(directory) {
  let bytes = 0;
  for (const file of readdirSync(directory))
    bytes += statSync(join(directory, file), { throwIfNoEntry: false })?.size ?? 0;
  return Math.round(bytes / 2 ** 20);
}

function snapshotOf(pid, children) {
  return {
    cpuMs: cpuMs(pid),
    threads: threadCpuMs(pid),
    childrenCpuMs: children.reduce((total, child) => total + cpuMs(child), 0),
    memory: memoryMiB(pid),
  };
}

async function startProcess(name, [file, ...args], env) {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  const output = [];
  const keep = (line) => {
    output.push(line);
    if (output.length > 100) output.shift();
  };
  createInterface({ input: child.stderr }).on('line', keep);
  const listening = new Promise((resolve) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      keep(line);
      const parsed = line.includes('"listening"') ? JSON.parse(line) : {};
      if (parsed.msg === 'listening') resolve(parsed);
    });
  });
  const exit = once(child, 'exit');
  // Whatever happens to the benchmark, what it started ends with it, and before its data directory goes.
  const end = () => child.kill('SIGKILL');
  process.prependOnceListener('exit', end);
  const first = await Promise.race([listening, exit.then(() => 'ended'), sleep(START_MS, 'late', { ref: false })]);
  if (typeof first === 'string') {
    end();
    throw new Error(`${name} did not start (${first}):\n${output.join('\n')}`);
  }
  const stop = async () => {
    child.kill('SIGTERM');
    const late = await Promise.race([exit, sleep(STOP_MS, 'late', { ref: false })]);
    if (late === 'late') {
      end();
      await exit;
    }
    process.removeListener('exit', end);
  };
  return { child, listening: first, stop };
}

function withoutPenstock(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('PENSTOCK_') && name !== 'PORT'));
}
