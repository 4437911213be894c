/** Where the two optional packages are, or what to do if they are not. Nothing is loaded here: only the child does that. */
import { createRequire } from 'node:module';

const LIBRARY = '@chdb/lib-linux-x64-gnu/libchdb.so';
const FFI = 'ffi-rs';

export interface Host {
  readonly platform: string;
  readonly arch: string;
  /** undefined: not glibc (Alpine's musl). */
  readonly glibcVersion: string | undefined;
  /** Resolves a module id to a path, or throws. */
  readonly resolve: (id: string) => string;
}

export function thisHost(): Host {
  return {
    platform: process.platform,
    arch: process.arch,
    glibcVersion: glibcVersion(),
    resolve: createRequire(import.meta.url).resolve,
  };
}

/** Path of libchdb.so; throws an error that says what to do. */
export function locateLibrary(host: Host): string {
  if (host.platform !== 'linux' || host.arch !== 'x64' || host.glibcVersion === undefined) {
    const libc = host.platform === 'linux' && host.glibcVersion === undefined ? ' without glibc' : '';
    throw unavailable(`there is none for ${host.platform}-${host.arch}${libc}`);
  }
  try {
    host.resolve(FFI);
    return host.resolve(LIBRARY);
  } catch (cause) {
    throw unavailable(`its optional packages (@chdb/lib-linux-x64-gnu, ffi-rs) are not installed`, cause);
  }
}

function unavailable(why: string, cause?: unknown): Error {
  return new Error(
    `The embedded ClickHouse cannot be started: ${why}. ` +
      'Install on linux-x64 with glibc and without --omit=optional, or set PENSTOCK_CLICKHOUSE_URL to a ClickHouse server.',
    { cause },
  );
}

function glibcVersion(): string | undefined {
  const report: unknown = process.report.getReport();
  if (typeof report !== 'object' || report === null || !('header' in report)) return undefined;
  const header: unknown = report.header;
  if (typeof header !== 'object' || header === null || !('glibcVersionRuntime' in header)) return undefined;
  return typeof header.glibcVersionRuntime === 'string' ? header.glibcVersionRuntime : undefined;
}
