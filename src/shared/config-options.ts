import { availableParallelism } from 'node:os';
import { type TSchema, Type } from './typebox.js';
import { API_KEY_PATTERN, SCOPES } from './config-text.js';
import { DEFAULT_CHANNELS } from './event-schema.js';
import { BODY_MAX_BYTES } from './limits.js';

/**
 * Every option once: schema, default, unit and help side by side. The flags, the environment variables, `--help`, the
 * table in README and `.env.example` all come from this list, so that none of them can drift.
 */

/** How the text of a flag or variable is read, see `config-text.ts`. */
export type OptionKind = 'text' | 'url' | 'integer' | 'bytes' | 'boolean' | 'list' | 'keys';

export interface Option<S extends TSchema = TSchema> {
  readonly group: OptionGroup;
  readonly kind: OptionKind;
  readonly schema: S;
  readonly default: unknown;
  /** What to print for a default that is computed or absent. */
  readonly defaultText?: string;
  /** What the schema demands, in words that follow "expected"; by default made from its bounds. */
  readonly expects?: string;
  /** The unit of a number; it also ends the option's name. */
  readonly unit?: 'bytes' | 'ms' | 's' | 'µs';
  readonly help: string;
  /** Never printed, neither in a log nor in an error. */
  readonly secret?: boolean;
}

export type OptionGroup =
  | 'Listeners'
  | 'Storage'
  | 'ClickHouse'
  | 'Access'
  | 'Events'
  | 'Limits'
  | 'Metrics'
  | 'Process';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const DAY_MS = 86_400_000;

function option<S extends TSchema>(spec: Option<S>): Option<S> {
  return spec;
}

function integer(minimum: number, maximum: number) {
  return Type.Integer({ minimum, maximum });
}

const hostName = () => Type.String({ pattern: '^[A-Za-z0-9.:%_-]+$' });

const optionalText = () => Type.Union([Type.String({ minLength: 1 }), Type.Undefined()]);

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const listeners = {
  host: option({
    group: 'Listeners',
    kind: 'text',
    schema: hostName(),
    default: '127.0.0.1',
    expects: 'a host name or an IP address',
    help: 'Address of the public listener: events, metrics, health. `0.0.0.0` listens on all.',
  }),
  port: option({
    group: 'Listeners',
    kind: 'integer',
    schema: integer(0, 65_535),
    default: 8080,
    help: 'Port of the public listener; 0 takes any free one. `PORT` is read where this is absent.',
  }),
  adminHost: option({
    group: 'Listeners',
    kind: 'text',
    schema: hostName(),
    default: '127.0.0.1',
    expects: 'a host name or an IP address',
    help: 'Address of the admin listener: Prometheus metrics, health.',
  }),
  adminPort: option({
    group: 'Listeners',
    kind: 'integer',
    schema: integer(0, 65_535),
    default: 9464,
    help: 'Port of the admin listener; 0 takes any free one.',
  }),
};

const storage = {
  dataDir: option({
    group: 'Storage',
    kind: 'text',
    schema: Type.String({ minLength: 1 }),
    default: './data',
    help: 'Directory of the write-ahead log, the dead-letter store and the embedded ClickHouse. One process at a time.',
  }),
  flushIntervalMs: option({
    group: 'Storage',
    kind: 'integer',
    schema: integer(1, DAY_MS),
    default: 1000,
    unit: 'ms',
    help: 'How long an event may wait in the log before it is sent to ClickHouse under light load.',
  }),
  commitDelayUs: option({
    group: 'Storage',
    kind: 'integer',
    schema: integer(0, 100_000),
    default: 100,
    unit: 'µs',
    help: 'Pause behind a commit of a few events (4 to 64), in which the next ones gather: 500 saves a fifth of the CPU at 20 000 requests/s and costs 0.4 ms of each.',
  }),
  walMaxBytes: option({
    group: 'Storage',
    kind: 'bytes',
    schema: integer(64 * KIB, Number.MAX_SAFE_INTEGER),
    default: 8 * GIB,
    unit: 'bytes',
    help: 'Size that the write-ahead log may reach while ClickHouse is away; beyond it events are answered 503.',
  }),
  walKeepMs: option({
    group: 'Storage',
    kind: 'integer',
    schema: integer(0, 366 * DAY_MS),
    default: 0,
    unit: 'ms',
    help: 'How long segments are kept after ClickHouse has them, for `penstock audit --deep`; at most PENSTOCK_WAL_MAX_BYTES of them.',
  }),
  retentionDays: option({
    group: 'Storage',
    kind: 'integer',
    schema: Type.Union([integer(1, 36_500), Type.Undefined()]),
    default: undefined,
    defaultText: 'everything is kept',
    expects: 'a whole number from 1 to 36500',
    help: 'How many UTC days before today are kept; what is older is deleted, not counted, and refused. The same for all instances on one ClickHouse.',
  }),
  deadLetterMaxBytes: option({
    group: 'Storage',
    kind: 'bytes',
    schema: integer(64 * KIB, Number.MAX_SAFE_INTEGER),
    default: GIB,
    unit: 'bytes',
    help: 'Size that the dead-letter store may reach; beyond it shipping waits until there is room.',
  }),
};

const clickhouse = {
  clickhouseUrl: option({
    group: 'ClickHouse',
    kind: 'url',
    schema: optionalText(),
    default: undefined,
    defaultText: 'embedded',
    expects: 'a URL such as http://localhost:8123, without user, path or query',
    help: 'HTTP address of ClickHouse. Absent: an embedded ClickHouse under the data directory.',
  }),
  clickhouseUser: option({
    group: 'ClickHouse',
    kind: 'text',
    schema: Type.String({ minLength: 1 }),
    default: 'default',
    help: 'User; the embedded ClickHouse is started with it.',
  }),
  clickhousePassword: option({
    group: 'ClickHouse',
    kind: 'text',
    schema: optionalText(),
    default: undefined,
    defaultText: 'none; embedded: generated',
    secret: true,
    help: 'Password. Set it in the environment: a command line can be read by other users of the machine.',
  }),
  clickhouseDatabase: option({
    group: 'ClickHouse',
    kind: 'text',
    schema: Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,62}$' }),
    default: 'penstock',
    expects: 'an identifier of letters, digits and underscores, not starting with a digit',
    help: 'Database; made at the first start.',
  }),
  clickhouseTimeoutMs: option({
    group: 'ClickHouse',
    kind: 'integer',
    schema: integer(100, DAY_MS),
    default: 30_000,
    unit: 'ms',
    help: 'How long an INSERT may take before it counts as in doubt and is sent again.',
  }),
};

const access = {
  apiKeys: option({
    group: 'Access',
    kind: 'keys',
    schema: Type.Array(
      Type.Object(
        {
          key: Type.String({ pattern: API_KEY_PATTERN, minLength: 1, maxLength: 256 }),
          scopes: Type.Array(Type.Enum([...SCOPES]), { minItems: 1, uniqueItems: true }),
          eventsPerSecond: Type.Union([integer(1, 1_000_000_000), Type.Undefined()]),
        },
        { additionalProperties: false },
      ),
      { maxItems: 10_000 },
    ),
    default: [],
    defaultText: 'none: open to all',
    expects:
      'comma-separated KEY[:SCOPE[+SCOPE]][@EVENTS_PER_SECOND] with scopes write and read, keys of letters, digits and ._~+/-',
    secret: true,
    help: 'Keys, comma-separated, each `KEY[:SCOPE[+SCOPE]][@EVENTS_PER_SECOND]`; the scopes are `write` (send events) and `read` (ask for metrics), none means both.',
  }),
};

const events = {
  channels: option({
    group: 'Events',
    kind: 'list',
    schema: Type.Array(Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$' }), {
      minItems: 1,
      maxItems: 256,
      uniqueItems: true,
    }),
    default: DEFAULT_CHANNELS,
    expects: 'a comma-separated list of different names, each 1–64 letters, digits, _ . : and -',
    help: 'The channels that an event may name, comma-separated.',
  }),
  futureToleranceS: option({
    group: 'Events',
    kind: 'integer',
    schema: integer(0, 31_622_400),
    default: 60,
    unit: 's',
    help: "How far ahead of this machine's clock an event's timestamp may be.",
  }),
};

const limits = {
  bodyMaxBytes: option({
    group: 'Limits',
    kind: 'bytes',
    schema: integer(256, BODY_MAX_BYTES),
    default: 16 * MIB,
    unit: 'bytes',
    help: 'Size of one request body, decoded; a larger one is answered 413.',
  }),
  bulkMaxEvents: option({
    group: 'Limits',
    kind: 'integer',
    schema: integer(1, 500_000),
    default: 10_000,
    help: 'Events in one bulk request; more are answered 413.',
  }),
  inFlightMaxBytes: option({
    group: 'Limits',
    kind: 'bytes',
    schema: integer(64 * KIB, 64 * GIB),
    default: 128 * MIB,
    unit: 'bytes',
    help: 'Bodies taken in and not answered yet, together; beyond it requests are answered 503.',
  }),
  inFlightMaxRequests: option({
    group: 'Limits',
    kind: 'integer',
    schema: integer(1, 1_000_000),
    default: 16_384,
    help: 'Requests taken in and not answered yet; beyond it requests are answered 503.',
  }),
};

const metrics = {
  metricsTimeoutMs: option({
    group: 'Metrics',
    kind: 'integer',
    schema: integer(100, DAY_MS),
    default: 10_000,
    unit: 'ms',
    help: 'How long one metrics query may run.',
  }),
  metricsMemoryBytes: option({
    group: 'Metrics',
    kind: 'bytes',
    schema: integer(0, Number.MAX_SAFE_INTEGER),
    default: 128 * MIB,
    unit: 'bytes',
    help: 'Memory for cells of the rollups, out of which metrics questions are answered without ClickHouse; 0: none.',
  }),
  metricsConcurrency: option({
    group: 'Metrics',
    kind: 'integer',
    schema: integer(1, 256),
    default: 4,
    help: 'Metrics queries that run in ClickHouse at once; more wait.',
  }),
};

/** As many as there are processors, but a fifth encoder has never had anything to do: the main thread is full before. */
function defaultEncoderThreads(): number {
  return Math.min(4, Math.max(1, availableParallelism()));
}

const processOptions = {
  encoderThreads: option({
    group: 'Process',
    kind: 'integer',
    schema: integer(1, 64),
    default: defaultEncoderThreads(),
    defaultText: 'processors, at most 4',
    help: 'Threads that check and encode events.',
  }),
  drainDelayMs: option({
    group: 'Process',
    kind: 'integer',
    schema: integer(0, 600_000),
    default: 0,
    unit: 'ms',
    help: 'After SIGTERM, how long to go on serving while the load balancer sees that readiness is gone.',
  }),
  drainTimeoutMs: option({
    group: 'Process',
    kind: 'integer',
    schema: integer(0, 600_000),
    default: 8000,
    unit: 'ms',
    help: 'After that, how long to ship the log before exiting; what is left ships at the next start.',
  }),
  readyRequiresClickhouse: option({
    group: 'Process',
    kind: 'boolean',
    schema: Type.Boolean(),
    default: false,
    help: 'Answer `/ready` with 503 while ClickHouse is away, although events are still accepted.',
  }),
  logLevel: option({
    group: 'Process',
    kind: 'text',
    schema: Type.Enum([...LOG_LEVELS]),
    default: 'info',
    help: `Least severe log line to print: ${LOG_LEVELS.map((level) => `\`${level}\``).join(', ')}.`,
  }),
};

export const OPTIONS = {
  ...listeners,
  ...storage,
  ...clickhouse,
  ...access,
  ...events,
  ...limits,
  ...metrics,
  ...processOptions,
};

export type OptionName = keyof typeof OPTIONS;

export const OPTION_NAMES: readonly OptionName[] = Object.keys(OPTIONS).filter(isOptionName);

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}

export function optionOf(name: OptionName): Option {
  return OPTIONS[name];
}

type Schemas = { [Name in OptionName]: (typeof OPTIONS)[Name]['schema'] };

const schemas = Object.fromEntries(OPTION_NAMES.map((name) => [name, OPTIONS[name].schema])) as Schemas;

/** The one schema of a whole configuration. */
export const CONFIG_SCHEMA = Type.Object(schemas, { additionalProperties: false });
