/** The command line of queries.js. */
import { resolve } from 'node:path';
import { DATA_ROOT, numberOf, oneOf, parse, settingOf, UsageError } from '../harness/options.js';

const DEFAULTS = { rows: 20_000_000, via: 'clickhouse', runs: 20, seconds: 5, 'live-seconds': 15 };

const OPTIONS = {
  rows: ['N', 'different events in the data set'],
  via: ['clickhouse|service', 'how they get there: straight into the embedded ClickHouse, or POST /events/bulk'],
  'data-dir': ['DIR', 'where the data set is made and kept, or is already (live events stay in it)'],
  'data-root': ['DIR', 'where a temporary data directory is made (default data/)'],
  beside: ['DIR', 'a data set of another size that a run with --data-dir left: its Penstock is asked by turns too'],
  runs: ['N', 'timed answers of each question and system'],
  seconds: ['S', 'no more runs of a question and system after so long, but at least three'],
  only: ['TEXT', 'questions whose name contains it'],
  live: ['EVENTS/S', 'then ask again while so many events come in, and compare'],
  'live-seconds': ['S', 'of receiving without questions, for its CPU'],
  set: ['NAME=VALUE', 'a setting of the service, PENSTOCK_…; may be repeated'],
  out: ['PATH', 'directory, or .json file, for the result (default bench/results)'],
};

const FLAGS = {
  alone: 'Penstock only: beside many rows the plain design takes hours',
  postgres: 'PostgreSQL beside, from the Debian package, with the same rows and an index on (event_name, ts)',
};

function helpText() {
  const line = (option, about) => `  --${option.padEnd(26)} ${about}`;
  const defaults = Object.entries(DEFAULTS).map(([key, value]) => `${key} ${value}`);
  return `node bench/queries.js [options]

Makes events of 30 days (10 names, 5 channels, up to a million users, skewed, 1 % late, 0.3 % duplicates), starts Penstock on them as
README does, and times its GET /metrics: p50 and p95 through HTTP. Beside it, in turn on the same machine, the plain design: a
ReplacingMergeTree ordered by event_name, ts, user_id, channel, campaign_id, asked for count() and count(distinct user_id), without
and with FINAL. Every answer is compared with a DISTINCT over the raw rows before it is timed. Writes the raw samples and
the machine into one JSON file, with a chart beside it. Needs a build: npm run build. Exits with 1 where an answer is not exact, or takes
more than three times as long while events come in.

Options (default ${defaults.join(', ')}):
${Object.entries(OPTIONS)
  .map(([name, [value, about]]) => line(`${name} ${value}`, about))
  .join('\n')}
${Object.entries(FLAGS)
  .map(([name, about]) => line(name, about))
  .join('\n')}
  --help                       this`;
}

/** @returns {object | undefined} undefined: help was asked for and printed */
export function readOptions(args) {
  const spec = Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: 'string' }]));
  for (const name of Object.keys(FLAGS)) spec[name] = { type: 'boolean', default: false };
  spec.set = { type: 'string', multiple: true };
  spec.help = { type: 'boolean', short: 'h', default: false };
  const given = { ...DEFAULTS, ...parse(args, spec) };
  if (given.help) {
    console.log(helpText());
    return undefined;
  }
  const whole = (name, min, max) => {
    const value = numberOf(name, given[name], min, max);
    if (Number.isInteger(value)) return value;
    throw new UsageError(`--${name} must be a whole number, not ${given[name]}`);
  };
  return {
    rows: whole('rows', 1_000, 1_000_000_000),
    via: oneOf('via', given.via, ['clickhouse', 'service']),
    dataDir: given['data-dir'],
    beside: besideOf(given),
    dataRoot: given['data-root'] ?? DATA_ROOT,
    runs: whole('runs', 1, 10_000),
    seconds: numberOf('seconds', given.seconds, 0.1, 3_600),
    only: given.only,
    alone: given.alone,
    postgres: given.postgres,
    liveRate: given.live === undefined ? 0 : whole('live', 1, 1_000_000),
    liveSeconds: numberOf('live-seconds', given['live-seconds'], 0.5, 3_600),
    settings: Object.fromEntries((given.set ?? []).map(settingOf)),
    out: given.out,
  };
}

function besideOf({ beside, live, 'data-dir': dataDir }) {
  if (beside === undefined) return undefined;
  if (live !== undefined) throw new UsageError('--beside is for quiet questions: leave out --live');
  if (dataDir !== undefined && resolve(beside) === resolve(dataDir))
    throw new UsageError('--beside needs a data set of its own');
  return beside;
}
