import fs from 'node:fs';
import { UsageError, count, EXIT_FINDING, EXIT_WELL, print, printJson, Progress, table } from '../console.js';
import type { ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../../shared/config.js';
import { deadLetterDirectory, DeadLetterStore } from '../../workers/flusher/dead-letter.js';
import { walDirectory } from '../../workers/flusher/wal/file-system.js';
import { commandLog, withClickHouse } from '../clickhouse-access.js';
import type { AuditRequest } from '../operator-commands.js';
import { auditEpoch, type EpochReport, intersect, type Interval, type Overlap } from './arithmetic.js';
import { type DeepReport, lookUpEvents } from './deep.js';
import { type FactsOptions, readFacts } from './sources.js';

/** `penstock audit`: invariant 2 by arithmetic, beside a running instance or on a directory whose instance is gone. */

interface AuditedEpoch extends EpochReport {
  readonly epoch: string;
  readonly startedAt: string | undefined;
}

interface Audit {
  readonly epochs: readonly AuditedEpoch[];
  readonly unread: readonly string[];
}

export async function audit({ deep, json }: AuditRequest, config: Config): Promise<number> {
  const directory = walDirectory(config.dataDir);
  if (!fs.existsSync(directory)) throw new UsageError(`there is no write-ahead log: ${directory} does not exist`);
  const store = new DeadLetterStore(deadLetterDirectory(config.dataDir));
  const progress = new Progress();
  const onProgress = (what: string): void => progress.tick(() => what);
  return withClickHouse(config, commandLog(config), async (client: ClickHouseClient) => {
    const options = { walDirectory: directory, store, client, database: config.clickhouseDatabase, onProgress };
    const result = await auditSteadily(options);
    const looked = deep ? await lookUpEvents(options, config.retentionDays) : undefined;
    if (json) await printJson({ ok: isWell(result, looked), ...result, ...(looked && { deep: looked }) });
    else await print(auditText(result, looked));
    return isWell(result, looked) ? EXIT_WELL : EXIT_FINDING;
  });
}

const PASSES_MAX = 4;

/**
 * What looks wrong is looked at again: beside a running instance, an event may take a way round us (into a segment that was
 * not yet listed, and from there to the dead letters that had been read). What is wrong stays wrong.
 */
async function auditSteadily(options: FactsOptions): Promise<Audit> {
  let result = await auditOnce(options);
  for (let pass = 2; pass <= PASSES_MAX && hasFindings(result); pass += 1) {
    result = confirmed(await auditOnce(options), result);
  }
  return result;
}

async function auditOnce(options: FactsOptions): Promise<Audit> {
  const { epochs, unread } = await readFacts(options);
  return {
    unread,
    epochs: epochs
      .map(({ epoch, startedAt, facts }) => ({ epoch, startedAt, ...auditEpoch(facts) }))
      .toSorted((a, b) => ((a.startedAt ?? '') < (b.startedAt ?? '') ? -1 : 1)),
  };
}

function hasFindings({ epochs }: Audit): boolean {
  return epochs.some(({ gaps, overlaps }) => gaps.length + overlaps.length > 0);
}

/** The later audit, with those findings only that both have. */
function confirmed(later: Audit, earlier: Audit): Audit {
  const before = new Map(earlier.epochs.map((epoch) => [epoch.epoch, epoch]));
  const epochs = later.epochs.map((epoch) => ({
    ...epoch,
    gaps: intersect(epoch.gaps, before.get(epoch.epoch)?.gaps ?? []),
    overlaps: epoch.overlaps.filter((overlap) =>
      before.get(epoch.epoch)?.overlaps.some((other) => isSame(overlap, other)),
    ),
  }));
  return { ...later, epochs };
}

function isSame(a: Overlap, b: Overlap): boolean {
  return a.from === b.from && a.to === b.to && a.keys.join() === b.keys.join();
}

function isWell(result: Audit, deep: DeepReport | undefined): boolean {
  return !hasFindings(result) && (deep?.missing ?? 0) === 0;
}

function auditText({ epochs, unread }: Audit, deep: DeepReport | undefined): string {
  const written = epochs.filter(({ synced }) => synced > 0);
  const head = ['epoch', 'started', 'synced', 'stored', 'pending', 'dead', 'purged', 'set aside', 'gaps', 'overlaps'];
  const rows = written.map((epoch) => [
    epoch.epoch,
    epoch.startedAt,
    epoch.synced,
    epoch.stored,
    epoch.pending,
    epoch.dead,
    epoch.purged,
    epoch.aside,
    eventsIn(epoch.gaps),
    eventsIn(epoch.overlaps),
  ]);
  const lines: string[] = [];
  for (const { epoch, gaps, overlaps } of written) {
    for (const gap of gaps) lines.push(`! epoch ${epoch}: ${span(gap)} nowhere to be found`);
    for (const { keys, ...overlap } of overlaps) {
      lines.push(`! epoch ${epoch}: ${span(overlap)} both in ${keys[0]} and in ${keys[1]}`);
    }
  }
  for (const name of unread) lines.push(`! ${name} in damaged/ cannot be read: what it held may be among the gaps`);
  lines.push(...deepLines(deep));
  const silent = epochs.length - written.length;
  const synced = written.reduce((sum, epoch) => sum + epoch.synced, 0);
  const all = `${count(synced, 'event')} in ${count(written.length, 'epoch')}${silent > 0 ? ` (${silent} more without events)` : ''}`;
  const verdict = hasFindings({ epochs, unread })
    ? 'not every sequence number is accounted for once'
    : 'every sequence number is accounted for, without gap or overlap';
  lines.push(`${all}: ${verdict}`);
  lines.push(
    'Not seen: a tail of which nothing is left, as after a crash whose last segment vanished before the next start (--help).',
  );
  return (rows.length > 0 ? table(head, rows) : '') + lines.map((line) => `${line}\n`).join('');
}

function deepLines(deep: DeepReport | undefined): string[] {
  if (deep === undefined) return [];
  const lines = deep.examples.map(({ id, event }) => `! missing in ClickHouse: ${id} ${JSON.stringify(event)}`);
  if (deep.missing > deep.examples.length) lines.push(`! … ${count(deep.missing, 'missing event')} in all`);
  lines.push(`${count(deep.events, 'event')} of ${count(deep.segments, 'segment')} looked up, ${deep.missing} missing`);
  if (deep.segments === 0) lines.push('No segments are kept: see PENSTOCK_WAL_KEEP_MS.');
  return lines;
}

function eventsIn(intervals: readonly Interval[]): number {
  return intervals.reduce((sum, { from, to }) => sum + to - from, 0);
}

function span({ from, to }: Interval): string {
  return to - from === 1 ? `sequence number ${from}` : `sequence numbers ${from} to ${to - 1}`;
}
