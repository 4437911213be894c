/** What to do about a child that did not become ready: pure, from how it ended to the next step. */

/** Longer than ORPHAN_GRACE_MS in child.ts, after which an orphan of an earlier parent is certainly gone. */
export const DIRECTORY_WAIT_MS = 25_000;
const DIRECTORY_POLL_MS = 250;
const PORT_TRIES = 5;
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 10_000;
/** A server that was up for this long before it crashed starts over with the shortest pause. */
export const STABLE_MS = 60_000;

export interface EndOfProcess {
  readonly code: number | null;
  readonly signal: string | null;
  /** The last lines that the child printed. */
  readonly tail: readonly string[];
}

export type FailureKind =
  /** Code 76: another process has the directory, often a child whose parent was killed a moment ago. */
  | 'directory_in_use'
  /** Code 210: somebody took the port between our look and the child's. */
  | 'port_in_use'
  /** The installed library cannot be a server. */
  | 'library_too_old'
  | 'other';

/** From what the child printed. Its exit code says nothing: ClickHouse's errors at start exit 0. */
export function classifyFailure(tail: readonly string[]): FailureKind {
  const text = tail.join('\n');
  if (/\bCode: 76\b/.test(text)) return 'directory_in_use';
  if (/\bCode: 210\b/.test(text)) return 'port_in_use';
  if (/SYSTEM START LISTEN.*not supported/.test(text)) return 'library_too_old';
  return 'other';
}

export type FirstStartStep =
  | { readonly step: 'retry'; readonly afterMs: number; readonly newPort: boolean }
  | { readonly step: 'give_up' };

/** The first start tells the operator what is wrong; it waits only for what passes by itself. */
export function afterFailedFirstStart(
  kind: FailureKind,
  state: { readonly elapsedMs: number; readonly portsTried: number },
): FirstStartStep {
  if (kind === 'directory_in_use' && state.elapsedMs < DIRECTORY_WAIT_MS) {
    return { step: 'retry', afterMs: DIRECTORY_POLL_MS, newPort: false };
  }
  if (kind === 'port_in_use' && state.portsTried < PORT_TRIES) {
    return { step: 'retry', afterMs: 0, newPort: true };
  }
  return { step: 'give_up' };
}

/** What the operator is told when the first start is given up. `owner`: the process that is noted to use the directory. */
export function startFailureMessage(
  kind: FailureKind,
  end: EndOfProcess,
  dataPath: string,
  owner: string | undefined,
): string {
  if (kind === 'directory_in_use') {
    const who = owner === undefined ? 'another process' : `another process (${owner})`;
    return (
      `The embedded ClickHouse cannot be started: ${who} uses ${dataPath}. ` +
      'Stop it, or give this instance another PENSTOCK_DATA_DIR.'
    );
  }
  const hint =
    kind === 'library_too_old'
      ? ' The installed @chdb/lib-linux-x64-gnu is too old: its ClickHouse must be 26.7 or later to be a server.'
      : '';
  const quoted = end.tail.length === 0 ? '' : ` Its last words:\n${end.tail.join('\n')}`;
  return `The embedded ClickHouse ended before it was ready (exit code ${end.code}, signal ${end.signal}).${hint}${quoted}`;
}

/** Once it has run, it is restarted without end, and on its port: its clients know no other. `failures` ≥ 1. */
export function restartDelayMs(failures: number): number {
  return Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** (failures - 1));
}
