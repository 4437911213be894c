import { LOG_STATE } from '../shared/channel.js';

/** Whether this instance should get requests: a pure function of what its parts say of themselves. */

export interface ReadinessState {
  readonly draining: boolean;
  /** LOG_STATE. */
  readonly logState: number;
  readonly walBytes: number;
  readonly walMaxBytes: number;
  /** Why not all encoders run; undefined where they do. */
  readonly encodersFault: string | undefined;
  /** No encoder runs at all. */
  readonly encodersDown: boolean;
  /** Why ClickHouse does not take or answer; undefined where it does. */
  readonly clickhouseFault: string | undefined;
  readonly requiresClickhouse: boolean;
}

export interface ReadinessReport {
  readonly status: 200 | 503;
  readonly body: { readonly status: 'ready' | 'not_ready'; readonly checks?: Readonly<Record<string, string>> };
}

export function reportReadiness(state: ReadinessState): ReadinessReport {
  const failed: Record<string, string> = {};
  const degraded: Record<string, string> = {};
  if (state.draining) failed['shutdown'] = 'the instance is shutting down';
  const walFault = faultOfLog(state);
  if (walFault !== undefined) failed['wal'] = walFault;
  if (state.encodersFault !== undefined) (state.encodersDown ? failed : degraded)['encoders'] = state.encodersFault;
  if (state.clickhouseFault !== undefined) {
    if (state.requiresClickhouse) failed['clickhouse'] = state.clickhouseFault;
    else degraded['clickhouse'] = `degraded: ${state.clickhouseFault}`;
  }
  const checks = { ...failed, ...degraded };
  if (Object.keys(failed).length > 0) return { status: 503, body: { status: 'not_ready', checks } };
  return { status: 200, body: Object.keys(checks).length > 0 ? { status: 'ready', checks } : { status: 'ready' } };
}

function faultOfLog({ logState, walBytes, walMaxBytes }: ReadinessState): string | undefined {
  switch (logState) {
    case LOG_STATE.ok:
      return walBytes >= walMaxBytes ? `the log is at its limit of ${walMaxBytes} bytes` : undefined;
    case LOG_STATE.starting:
      return 'the log is being opened';
    case LOG_STATE.diskFull:
      return 'the disk is full';
    case LOG_STATE.failing:
      return 'the log cannot be written';
    default:
      return 'the log is closed';
  }
}

/** What routes ask. */
export interface Readiness {
  report(): ReadinessReport;
}
