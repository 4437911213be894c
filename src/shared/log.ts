import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import type { LogLevel } from './config-options.js';

/**
 * One JSON log line per occurrence, from every thread, to standard output. No transport threads: a transport buffers in a
 * thread that a dying process does not wait for, and the last lines are the ones that are wanted. Nothing is logged per
 * event or per successful request.
 */

export type { Logger };

/** The thread that a line comes from. */
export type LogThread = 'main' | 'encoder' | 'log' | 'shipper' | 'roller' | 'cells';

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly thread: LogThread;
  /**
   * Writes before returning. Needed on a thread that does not return to its event loop (encoders, log), where a buffered
   * line would never leave; default on all of them, since lines are few. `false` buffers until the event loop turns.
   */
  readonly sync?: boolean;
  /** Where the lines go instead of standard output; for tests. */
  readonly destination?: DestinationStream;
}

/**
 * Members that hold a secret wherever they appear, at the top of a line or one level down. A net, not a licence: nothing
 * should log them in the first place.
 */
const SECRET_MEMBERS = ['clickhousePassword', 'password', 'apiKey', 'apiKeys', 'authorization', 'Authorization'];

const REDACTED_PATHS = [...SECRET_MEMBERS, ...SECRET_MEMBERS.map((name) => `*.${name}`)];

export function createLogger({ level, thread, sync = true, destination }: LoggerOptions): Logger {
  return pino(
    {
      level,
      base: { pid: process.pid, thread },
      messageKey: 'msg',
      errorKey: 'err',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    },
    destination ?? pino.destination({ fd: 1, sync }),
  );
}

/**
 * Prints a line whatever the level, for what other programs wait for: `listening` must be there at `LOG_LEVEL=error` too.
 */
export function announce(logger: Logger, message: string, fields: Readonly<Record<string, unknown>>): void {
  logger.child({}, { level: 'info' }).info(fields, message);
}
