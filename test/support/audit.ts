import assert from 'node:assert/strict';
import { penstock } from './command.js';

/** What `penstock audit --json` prints. */
export interface AuditReport {
  readonly ok: boolean;
  readonly epochs: readonly AuditedEpoch[];
  readonly unread: readonly string[];
  readonly deep?: { readonly segments: number; readonly events: number; readonly missing: number };
}

interface AuditedEpoch {
  readonly epoch: string;
  readonly synced: number;
  readonly stored: number;
  readonly pending: number;
  readonly dead: number;
  readonly purged: number;
  readonly aside: number;
  readonly gaps: readonly { readonly from: number; readonly to: number }[];
  readonly overlaps: readonly object[];
}

export type AuditSums = Record<'synced' | 'stored' | 'pending' | 'dead' | 'purged' | 'aside', number>;

/** Runs the audit; its exit code must say what its report says. */
export async function runAudit(
  dataDir: string,
  { env = {}, deep = false }: { readonly env?: Readonly<Record<string, string>>; readonly deep?: boolean } = {},
): Promise<AuditReport & { readonly sums: AuditSums; readonly lost: number }> {
  const { code, stdout, stderr } = await penstock(['audit', '--json', ...(deep ? ['--deep'] : [])], { dataDir, env });
  assert.ok(stdout.startsWith('{'), `${code}: ${stdout}${stderr}`);
  const report = JSON.parse(stdout) as AuditReport;
  assert.equal(code, report.ok ? 0 : 1, stdout);
  const sums = { synced: 0, stored: 0, pending: 0, dead: 0, purged: 0, aside: 0 };
  let lost = 0;
  for (const epoch of report.epochs) {
    for (const name of Object.keys(sums) as (keyof AuditSums)[]) sums[name] += epoch[name];
    for (const { from, to } of epoch.gaps) lost += to - from;
  }
  return { ...report, sums, lost };
}
