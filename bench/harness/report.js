/** What a benchmark leaves: a table for people, one JSON file for everything else. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { round } from './load.js';

const RESULTS = fileURLToPath(new URL('../results', import.meta.url));

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Samples by their label, in the order in which the labels came. */
export function byLabel(samples) {
  const groups = new Map();
  for (const sample of samples) groups.set(sample.label, [...(groups.get(sample.label) ?? []), sample]);
  return groups;
}

/** Of every number in the samples of a label, nested ones too, the median. */
export function mediansOf(samples) {
  return [...byLabel(samples)].map(([label, group]) => {
    const { run: _run, ...first } = group[0];
    return { ...medianObject(group, first), label, runs: group.length };
  });
}

function medianObject(group, shape) {
  return Object.fromEntries(
    Object.entries(shape).map(([key, value]) => {
      const values = group.map((each) => each[key]).filter((each) => each !== null && each !== undefined);
      if (typeof value === 'object' && value !== null) return [key, medianObject(values, value)];
      if (typeof value !== 'number' || values.length === 0) return [key, value];
      return [key, round(median(values), 5)];
    }),
  );
}

const COLUMNS = {
  '': (row) => row.label,
  runs: (row) => row.runs,
  'events/s': (row) => Math.round(row.eventsPerS),
  'p50 ms': (row) => row.latencyMs?.p50,
  'p99 ms': (row) => row.latencyMs?.p99,
  'max ms': (row) => row.latencyMs?.max,
  'late p99 ms': (row) => row.sendingLateMs?.p99,
  'service µs/event': (row) => row.cpuUs.perEvent,
  'ClickHouse µs/event': (row) => row.cpuUs.clickhousePerEvent,
  'generator µs/request': (row) => row.cpuUs.generatorPerRequest,
  'memory MiB': (row) => row.memoryMiB?.now,
  'others, cores': (row) => row.othersCores,
  refused: (row) => row.refused,
  failed: (row) => row.failed + row.unsent,
};

/** Text lines of columns, numbers to the right. */
export function tableText(head, rows) {
  const cells = [head, ...rows].map((row) =>
    row.map((cell) => (cell === undefined || cell === null ? '–' : String(cell))),
  );
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  return cells
    .map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[i]))).join('  '))
    .join('\n');
}

export function printResult(result) {
  const rows = result.medians.map((row) => Object.values(COLUMNS).map((of) => of(row)));
  console.log(`\n${tableText(Object.keys(COLUMNS), rows)}`);
  const withThreads = result.medians.filter((row) => row.service === 'penstock' && row.threadsUs !== undefined);
  if (withThreads.length > 0 && result.mode !== 'soak') {
    const names = [...new Set(withThreads.flatMap((row) => Object.keys(row.threadsUs)))];
    const lines = withThreads.map((row) => [row.label, ...names.map((name) => row.threadsUs[name])]);
    console.log(`\n${tableText(['CPU µs/event by thread', ...names], lines)}`);
  }
  for (const { name, holds, detail } of result.thresholds)
    console.log(`${holds ? 'holds' : 'FAILS'}: ${name} (${detail})`);
  for (const note of result.notes) console.log(JSON.stringify(note));
  const checked = result.verification.filter((each) => each.exact !== null);
  const wrong = checked.filter((each) => !each.exact);
  const events = checked.reduce((total, each) => total + each.acknowledged, 0);
  console.log(
    wrong.length === 0
      ? `\nverified: ${events} acknowledged events in ${checked.length} runs, each counted once and in ClickHouse`
      : `\nNOT EXACT in ${wrong.length} of ${checked.length} runs`,
  );
}

/** @returns {string} the path of the JSON file */
export function resultPath({ out, mode }, startedAt, commit) {
  const name = `${mode}-${startedAt.toISOString().slice(0, 19).replaceAll(':', '')}-${commit.slice(0, 7)}.json`;
  const path = out?.endsWith('.json') ? out : join(out ?? RESULTS, name);
  mkdirSync(dirname(path), { recursive: true });
  return path;
}

export function writeResult(path, result) {
  writeFileSync(path, `${JSON.stringify(result, null, 1)}\n`);
  return basename(path);
}
