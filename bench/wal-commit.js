/**
 * What one commit costs: a frame written and synced, into a new file, and into the file of a confirmed segment (recycled).
 * Alternates the two, so that a noisy machine is noisy for both. Usage: node bench/wal-commit.js [--dir DIR] [--commits N]
 */
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    dir: { type: 'string', default: '.' },
    commits: { type: 'string', default: '400' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(
    'node bench/wal-commit.js [--dir DIR] [--commits N]\nNeeds a build: npm run build. DIR is the disk to measure.',
  );
  process.exit(0);
}

const { SegmentWriter } = await import('../dist/src/workers/flusher/wal/segment-writer.js');
const { nodeFileSystem } = await import('../dist/src/workers/flusher/wal/file-system.js');

const commits = Number(values.commits);
const directory = mkdtempSync(join(resolve(values.dir), 'wal-commit-'));
const ROUNDS = 5;
const SIZES = [200, 20_000, 200_000];

function median(samples) {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)];
}

/** Commits into one segment; the durations in ms and the CPU in µs a commit. */
function measure(ordinal, bytes, spare) {
  const writer = new SegmentWriter(
    nodeFileSystem,
    directory,
    { ordinal, segmentId: BigInt(ordinal), epoch: 1n },
    spare,
  );
  const payload = [Buffer.alloc(bytes, 7)];
  const durations = [];
  const cpu = process.cpuUsage();
  for (let i = 0; i < commits; i += 1) {
    const from = performance.now();
    writer.append(payload, bytes, 1, BigInt(i), Date.now());
    durations.push(performance.now() - from);
  }
  const { user, system } = process.cpuUsage(cpu);
  writer.seal(BigInt(commits), Date.now());
  return { file: writer.file, p50: median(durations), cpu: (user + system) / commits };
}

try {
  const rows = [];
  let ordinal = 1;
  for (const bytes of SIZES) {
    const fresh = [];
    const recycled = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const first = measure(ordinal++, bytes, undefined);
      fresh.push(first);
      const spare = join(directory, 'x.spare');
      renameSync(first.file, spare);
      const second = measure(ordinal++, bytes, spare);
      recycled.push(second);
      rmSync(second.file);
    }
    const of = (runs, key) => median(runs.map((run) => run[key]));
    rows.push({
      'bytes a commit': bytes,
      'new file, p50 ms': of(fresh, 'p50').toFixed(3),
      'recycled, p50 ms': of(recycled, 'p50').toFixed(3),
      'new file, CPU µs': of(fresh, 'cpu').toFixed(0),
      'recycled, CPU µs': of(recycled, 'cpu').toFixed(0),
    });
  }
  console.table(rows);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
