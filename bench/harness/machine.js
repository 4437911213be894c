/** Where and on what a result was measured. A figure without these is worth nothing. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, statfsSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Above this, others' work is in the figures. */
export const QUIET_LOAD = 1.5;

/** By the number that statfs gives. */
const FILE_SYSTEMS = {
  0xef53: 'ext4',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x01021994: 'tmpfs',
  0x794c7630: 'overlay',
};

export function machine(dataRoot) {
  mkdirSync(dataRoot, { recursive: true });
  const { type } = statfsSync(dataRoot);
  const [cpu] = os.cpus();
  return {
    cpu: cpu?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()}`,
    arch: os.arch(),
    /** Of the log. On tmpfs a sync costs nothing, and figures say nothing. */
    fileSystem: FILE_SYSTEMS[type] ?? `0x${type.toString(16)}`,
    loadBefore: Number((os.loadavg()[0] ?? 0).toFixed(2)),
  };
}

export function versions() {
  const git = (...args) => spawnSync('git', args, { cwd: ROOT, encoding: 'utf8' }).stdout?.trim() ?? '';
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return {
    node: process.version,
    penstock: version,
    commit: git('rev-parse', '--short=12', 'HEAD') || 'unknown',
    /** Files that differ from the commit. */
    changedFiles: git('status', '--porcelain', '--untracked-files=no').split('\n').filter(Boolean).length,
  };
}
