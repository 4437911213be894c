/**
 * The textual forms of option values: what stands on a command line or in an environment variable, turned into the value
 * that the schema then checks. Each parser answers `undefined` for text that is not of its form, so that the caller can
 * name the option; nothing here throws, and nothing here repeats the text, which may be a secret.
 */

const BYTE_UNITS: Readonly<Record<string, number>> = { '': 1, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3 };

/** `8GiB`, `512 KiB` or plain bytes. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+)\s*(kib|mib|gib|)$/i.exec(text);
  if (match === null) return undefined;
  const bytes = Number(match[1]) * (BYTE_UNITS[(match[2] ?? '').toLowerCase()] ?? Number.NaN);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The shortest text that `parseBytes` reads back as `bytes`. */
export function formatBytes(bytes: number): string {
  for (const unit of ['GiB', 'MiB', 'KiB']) {
    const size = BYTE_UNITS[unit.toLowerCase()] ?? 1;
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}

/** Decimal digits only: `1e3`, `0x10` and `1_000` are more often slips than meant. */
export function parseInteger(text: string): number | undefined {
  if (!/^-?\d+$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

export function parseBoolean(text: string): boolean | undefined {
  switch (text.toLowerCase()) {
    case 'true':
    case '1':
    case 'yes':
    case 'on':
      return true;
    case 'false':
    case '0':
    case 'no':
    case 'off':
      return false;
    default:
      return undefined;
  }
}

export function parseList(text: string): string[] {
  return text.split(',').map((item) => item.trim());
}

export const SCOPES = ['write', 'read'] as const;
export type Scope = (typeof SCOPES)[number];

/** One key that opens the public listener. */
export interface ApiKey {
  readonly key: string;
  /** `write` sends events, `read` asks for metrics. */
  readonly scopes: readonly Scope[];
  /** Events a second that the key may send; `undefined` for no limit. */
  readonly eventsPerSecond: number | undefined;
}

/** What a key is made of: RFC 6750's token68, which has none of the separators `:`, `@` and `,`. */
export const API_KEY_PATTERN = '^[A-Za-z0-9._~+/-]+=*$';

/** `KEY[:SCOPE[+SCOPE]][@EVENTS_PER_SECOND]`; no scope means both. */
export function parseApiKey(text: string): ApiKey | undefined {
  const match = /^([^:@,]+)(?::([a-z+]+))?(?:@(\d+))?$/.exec(text.trim());
  if (match === null) return undefined;
  const [, key = '', scopeText, rateText] = match;
  const scopes = scopeText === undefined ? SCOPES : scopeText.split('+').map(asScope);
  if (scopes.some((scope) => scope === undefined)) return undefined;
  return {
    key,
    scopes: scopes.filter((scope) => scope !== undefined),
    eventsPerSecond: rateText === undefined ? undefined : Number(rateText),
  };
}

function asScope(text: string): Scope | undefined {
  return SCOPES.find((scope) => scope === text);
}

/**
 * The name that was probably meant: the one with the fewest single-character edits, if they are few for its length.
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 4)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein distance, row by row. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min((previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1, substituted));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
