/** The command line of run.js, and what other benches share of it: options, their defaults by mode, and the help made from them. */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { PAYLOADS } from '../generator/payload.js';
import { hasWrk } from './wrk.js';

/** As the service has it by default; the system's temporary directory may be memory, where syncing is free. */
export const DATA_ROOT = fileURLToPath(new URL('../../data', import.meta.url));

export class UsageError extends Error {}

/** What each mode is, and its defaults where they differ from COMMON. */
export const MODES = {
  saturate: {
    about: 'as fast as it goes: every connection sends when it has its answer',
    connections: 256,
    duration: 10,
  },
  rate: { about: 'open loop at fixed rates', rate: '2000,20000', connections: 256, threads: 1, duration: 15 },
  ramp: {
    about: 'open loop: sustained at the first rate, a spike to the second, and back; has thresholds',
    rate: '2000,20000',
    connections: 512,
    threads: 1,
    duration: 30,
    runs: 1,
  },
  bulk: {
    about: 'POST /events/bulk as fast as it goes, without and with ids in the answer',
    connections: 8,
    duration: 10,
  },
  soak: {
    about: 'open loop for long; rate, latency and memory over time',
    rate: '10000',
    connections: 256,
    threads: 1,
    duration: 600,
    runs: 1,
  },
  overload: {
    about: 'the peak, then 1.3 times the peak with clients that honour Retry-After, then many that retry at once',
    connections: 1024,
    duration: 10,
  },
  peers: { about: 'Penstock and others, alternating, on the same ClickHouse', connections: 256, duration: 8 },
};

const COMMON = {
  runs: 3,
  clickhouse: 'running',
  payload: 'seed',
  endpoint: 'single',
  batch: 1000,
  duplicates: 0,
  users: 100_000,
  warmup: 8,
};

const OPTIONS = {
  mode: ['MODE', 'what to do, see below'],
  endpoint: ['single|bulk', 'POST /events or POST /events/bulk'],
  duration: ['SECONDS', 'of each measured run (ramp: at the first rate; the spike and after take a third each)'],
  total: ['EVENTS', 'end a run earlier, after so many events, warm-up included'],
  rate: ['REQUESTS/S', 'of open loops; several with commas'],
  connections: ['N', 'keep-alive connections'],
  threads: ['N', 'generator threads, at most 4'],
  batch: ['EVENTS', 'in a bulk body'],
  payload: [PAYLOADS.join('|'), 'the event of README; required members only; 4 KiB; all of them'],
  duplicates: ['PERCENT', 'of requests that send an acknowledged body again'],
  users: ['N', 'different user ids'],
  tool: ['node|wrk|both', 'closed loops on single events: our generator, wrk, or one after the other'],
  runs: ['N', 'measured runs of each line; the table has medians'],
  warmup: ['SECONDS', 'before each run, not counted'],
  url: ['URL', 'a service that runs already; CPU and ClickHouse are then not looked at'],
  'api-key': ['KEY', 'for such a service'],
  'data-root': ['DIR', 'where the temporary data directory is made: the disk that is measured (default data/)'],
  clickhouse: ['running|stopped', 'while it is measured; stopped (SIGSTOP) it goes on before totals are compared'],
  set: ['NAME=VALUE', 'a setting of the service, PENSTOCK_…; may be repeated'],
  out: ['PATH', 'directory, or .json file, for the result (default bench/results)'],
};

function helpText() {
  const option = ([name, [value, about]]) => `  --${`${name} ${value}`.padEnd(26)} ${about}`;
  const mode = ([name, { about, ...own }]) => {
    const defaults = Object.entries(own).map(([key, value]) => `${key} ${value}`);
    return `  ${name.padEnd(10)} ${about} (${defaults.join(', ')})`;
  };
  const defaults = Object.entries(COMMON).map(([key, value]) => `${key} ${value}`);
  return `node bench/run.js --mode MODE [options]

Starts Penstock as README does, on its embedded ClickHouse, free ports and a temporary data directory; warms up, measures, checks that
what was acknowledged is what the service counts and what ClickHouse holds, and writes the raw samples, the medians and the machine
into one JSON file, with a chart beside it. Needs a build: npm run build. Exits with 1 where a total or a threshold does not hold.

Modes and their defaults:
${Object.entries(MODES).map(mode).join('\n')}

Options (default ${defaults.join(', ')}):
${Object.entries(OPTIONS).map(option).join('\n')}
  --help                       this`;
}

/** @returns {object | undefined} the settings of a run; undefined: help was asked for and printed */
export function readOptions(args) {
  const spec = Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: 'string' }]));
  spec.set = { type: 'string', multiple: true };
  spec.help = { type: 'boolean', short: 'h', default: false };
  const given = parse(args, spec);
  if (given.help) {
    console.log(helpText());
    return undefined;
  }
  const mode = given.mode ?? 'saturate';
  if (!Object.hasOwn(MODES, mode))
    throw new UsageError(`--mode must be one of ${Object.keys(MODES).join(', ')}, not ${mode}`);
  const { about: _, ...own } = MODES[mode];
  if (given.endpoint === 'bulk') Object.assign(own, { connections: MODES.bulk.connections, rate: '' });
  const value = {
    threads: Math.min(4, availableParallelism()),
    tool: defaultTool(mode),
    rate: '',
    ...COMMON,
    ...own,
    ...given,
  };
  if (value.rate === '' && (mode === 'rate' || mode === 'ramp'))
    throw new UsageError(`--mode ${mode} wants a --rate for bulk`);
  const number = (name, min, max = Infinity) => numberOf(name, value[name], min, max);
  return {
    mode,
    endpoint: mode === 'bulk' ? 'bulk' : oneOf('endpoint', value.endpoint, ['single', 'bulk']),
    durationS: number('duration', 0.2),
    total: value.total === undefined ? 0 : number('total', 1),
    rates: String(value.rate)
      .split(',')
      .filter(Boolean)
      .map((rate) => numberOf('rate', rate, 1, 1_000_000)),
    clickhouse: oneOf('clickhouse', value.clickhouse, ['running', 'stopped']),
    connections: number('connections', 1, 20_000),
    threads: number('threads', 1, 4),
    batch: number('batch', 1, 10_000),
    payload: oneOf('payload', value.payload, PAYLOADS),
    duplicates: number('duplicates', 0, 100) / 100,
    users: number('users', 1, 9_999_999),
    tool: oneOf('tool', value.tool, ['node', 'wrk', 'both']),
    runs: number('runs', 1, 1000),
    warmupS: number('warmup', 0),
    url: value.url,
    apiKey: value['api-key'],
    dataRoot: value['data-root'] ?? DATA_ROOT,
    settings: Object.fromEntries((value.set ?? []).map(settingOf)),
    out: value.out,
  };
}

/** The values of the command line, by parseArgs' own rules. */
export function parse(args, spec) {
  try {
    return parseArgs({ args, options: spec }).values;
  } catch (error) {
    throw new UsageError(error.message, { cause: error });
  }
}

/** wrk takes least from what is measured; it cannot keep to a rate, and sends no bulk here. */
function defaultTool(mode) {
  if (!hasWrk()) return 'node';
  return mode === 'saturate' ? 'both' : mode === 'peers' ? 'wrk' : 'node';
}

export function numberOf(name, text, min, max) {
  const number = Number(text);
  if (Number.isFinite(number) && number >= min && number <= max) return number;
  throw new UsageError(`--${name} must be a number from ${min} to ${max}, not ${text}`);
}

export function oneOf(name, value, values) {
  if (values.includes(value)) return value;
  throw new UsageError(`--${name} must be one of ${values.join(', ')}, not ${value}`);
}

export function settingOf(text) {
  const at = text.indexOf('=');
  if (at > 0 && text.startsWith('PENSTOCK_')) return [text.slice(0, at), text.slice(at + 1)];
  throw new UsageError(`--set wants PENSTOCK_NAME=VALUE, not ${text}`);
}
