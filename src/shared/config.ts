import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Compile } from './typebox.js';
import {
  CONFIG_SCHEMA,
  isOptionName,
  type LogLevel,
  OPTION_NAMES,
  OPTIONS,
  type Option,
  type OptionGroup,
  type OptionName,
  optionOf,
} from './config-options.js';
import {
  type ApiKey,
  formatBytes,
  nearest,
  parseApiKey,
  parseBoolean,
  parseBytes,
  parseInteger,
  parseList,
  SCOPES,
} from './config-text.js';
import { messageOf } from './errors.js';

/**
 * The configuration: flags over environment over file over defaults, checked against one schema before anything starts.
 * This is the only reader of `process.env`. A value that cannot be meant, or a name that nothing reads, stops the start:
 * a service that ran for a month with `PENSTOCK_WAL_MAX_BYTE` set has no log limit and does not know it.
 */

export type { ApiKey, LogLevel };

/** Every option, parsed and checked. Units end the names; see `config-options.ts` for what each does. */
export interface Config {
  readonly host: string;
  readonly port: number;
  readonly adminHost: string;
  readonly adminPort: number;
  /** Absolute. */
  readonly dataDir: string;
  readonly flushIntervalMs: number;
  readonly commitDelayUs: number;
  readonly walMaxBytes: number;
  readonly walKeepMs: number;
  /** `undefined` keeps everything. */
  readonly retentionDays: number | undefined;
  readonly deadLetterMaxBytes: number;
  /** Without a trailing slash; `undefined` for the embedded ClickHouse. */
  readonly clickhouseUrl: string | undefined;
  readonly clickhouseUser: string;
  readonly clickhousePassword: string | undefined;
  readonly clickhouseDatabase: string;
  readonly clickhouseTimeoutMs: number;
  /** Empty: open to all. */
  readonly apiKeys: readonly ApiKey[];
  readonly channels: readonly string[];
  readonly futureToleranceS: number;
  readonly bodyMaxBytes: number;
  readonly bulkMaxEvents: number;
  readonly inFlightMaxBytes: number;
  readonly inFlightMaxRequests: number;
  readonly metricsTimeoutMs: number;
  readonly metricsMemoryBytes: number;
  readonly metricsConcurrency: number;
  readonly encoderThreads: number;
  readonly drainDelayMs: number;
  readonly drainTimeoutMs: number;
  readonly readyRequiresClickhouse: boolean;
  readonly logLevel: LogLevel;
}

/** Flags by the names that commander gives them, which are those of `Config`; `config` is the path of a file. */
export type Flags = Readonly<Record<string, string | boolean | undefined>>;

export type Environment = Readonly<Record<string, string | undefined>>;

/** What is wrong with the configuration, in one line that names the option as it was written. */
export class ConfigError extends Error {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = 'ConfigError';
  }
}

const PREFIX = 'PENSTOCK_';
const CONFIG_FILE_VARIABLE = 'PENSTOCK_CONFIG';

const validator = Compile(CONFIG_SCHEMA);

/** `clickhouseUrl` → `PENSTOCK_CLICKHOUSE_URL`. */
export function environmentName(name: OptionName): string {
  return PREFIX + name.replaceAll(/[A-Z]/g, '_$&').toUpperCase();
}

/** `clickhouseUrl` → `--clickhouse-url`. */
export function flagName(name: OptionName): string {
  return `--${name.replaceAll(/[A-Z]/g, '-$&').toLowerCase()}`;
}

const BY_VARIABLE: ReadonlyMap<string, OptionName> = new Map(OPTION_NAMES.map((name) => [environmentName(name), name]));

/** A value and where it came from, as the operator wrote it. */
interface Setting {
  readonly source: string;
  readonly value: unknown;
}

type Settings = Map<OptionName, Setting>;

/**
 * Reads and checks the whole configuration.
 * @throws ConfigError for the first thing that is wrong.
 */
export function loadConfig(flags: Flags = {}, env: Environment = process.env): Config {
  const settings: Settings = new Map();
  const file = flags['config'] ?? env[CONFIG_FILE_VARIABLE];
  if (typeof file === 'string' && file !== '') readFile(file, settings);
  readEnvironment(env, settings);
  readFlags(flags, settings);

  const values: Record<string, unknown> = {};
  for (const name of OPTION_NAMES) {
    const setting = settings.get(name);
    values[name] = setting === undefined ? optionOf(name).default : parse(name, setting);
  }
  if (!validator.Check(values)) throw schemaError(values, settings);
  const config: Config = { ...values, dataDir: path.resolve(values.dataDir) };
  checkRelations(config, settings);
  return config;
}

function readFlags(flags: Flags, settings: Settings): void {
  for (const [name, value] of Object.entries(flags)) {
    if (value === undefined || name === 'config') continue;
    if (!isOptionName(name)) throw new ConfigError(`unknown option ${name}`);
    settings.set(name, { source: flagName(name), value });
  }
}

/** An empty variable counts as absent, since that is what `${NAME:-}` in a compose file or a chart leaves. */
function readEnvironment(env: Environment, settings: Settings): void {
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith(PREFIX) || variable === CONFIG_FILE_VARIABLE) continue;
    if (value === undefined || isInjectedByKubernetes(variable, value)) continue;
    const name = BY_VARIABLE.get(variable);
    if (name === undefined) throw unknownName(`environment variable ${variable}`, variable, [...BY_VARIABLE.keys()]);
    if (value !== '') settings.set(name, { source: variable, value });
  }
  const port = env['PORT'];
  const own = env[environmentName('port')];
  if (port === undefined || port === '') return;
  if (own === undefined || own === '' || isInjectedByKubernetes('PENSTOCK_PORT', own)) {
    settings.set('port', { source: 'PORT', value: port });
  }
}

/**
 * What Kubernetes puts into every container for a service called `penstock`, or `penstock-admin`, in the same namespace:
 * a name we would refuse, or an address where we read a port.
 */
export function isInjectedByKubernetes(variable: string, value: string): boolean {
  return (
    (variable.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value)) ||
    /^PENSTOCK_([A-Z0-9_]+_)?SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$/.test(variable) ||
    /^PENSTOCK_([A-Z0-9_]+_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(variable)
  );
}

/** A file's keys are spelled like the flag without its dashes, or like the field of `Config`. */
function readFile(file: string, settings: Settings): void {
  const spellings = new Map<string, OptionName>();
  for (const name of OPTION_NAMES) spellings.set(name, name).set(flagName(name).slice(2), name);
  for (const [key, value] of Object.entries(parseFile(file))) {
    const name = spellings.get(key);
    if (name === undefined) throw unknownName(`option "${key}" in ${file}`, key, [...spellings.keys()]);
    if (settings.has(name)) throw new ConfigError(`option "${key}" in ${file}: given twice`);
    settings.set(name, { source: `option "${key}" in ${file}`, value });
  }
}

function parseFile(file: string): object {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(`--config ${file}: cannot be read: ${messageOf(error)}`, { cause: error });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // The parser's message quotes the text, in which a password may stand.
    throw new ConfigError(`--config ${file}: not valid JSON`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(`--config ${file}: expected a JSON object of options`);
  }
  return value;
}

function unknownName(what: string, name: string, known: readonly string[]): ConfigError {
  const meant = nearest(name, known);
  return new ConfigError(`unknown ${what}${meant === undefined ? '' : `; did you mean ${meant}?`}`);
}

/** Text becomes the value that it stands for; other values, from a file, go to the schema as they are. */
function parse(name: OptionName, { source, value }: Setting): unknown {
  const option = optionOf(name);
  if (option.kind === 'keys') return parseKeys(value, source);
  // commander's value of a flag whose argument was left out, possible for booleans only.
  if (typeof value !== 'string') return value;
  if (option.kind === 'url') return parseUrl(value, source);
  const parsed = parseText(option, value);
  if (parsed === undefined) throw valueError(option, source, value);
  return parsed;
}

function parseText(option: Option, text: string): unknown {
  switch (option.kind) {
    case 'integer':
      return parseInteger(text);
    case 'bytes':
      return parseBytes(text);
    case 'boolean':
      return parseBoolean(text);
    case 'list':
      return parseList(text);
    default:
      return text;
  }
}

function parseUrl(text: string, source: string): string {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) throw valueError(OPTIONS.clickhouseUrl, source);
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') {
    const [user, password] = [environmentName('clickhouseUser'), environmentName('clickhousePassword')];
    throw new ConfigError(`${source}: a user or password in the URL would end up in logs; set ${user} and ${password}`);
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    const database = environmentName('clickhouseDatabase');
    throw new ConfigError(`${source}: a path or query is not supported; the database is ${database}`);
  }
  return url.origin;
}

/** Keys are named by their position: the error goes to a terminal or a log. */
function parseKeys(value: unknown, source: string): unknown {
  const items: unknown = typeof value === 'string' ? parseList(value) : value;
  if (!Array.isArray(items)) throw valueError(OPTIONS.apiKeys, source);
  const seen = new Set<unknown>();
  return items.map((item: unknown, index) => {
    const entry = typeof item === 'string' ? parseApiKey(item) : withKeyDefaults(item);
    if (entry === undefined) throw valueError(OPTIONS.apiKeys, `${source}, entry ${index + 1}`);
    if (seen.has(entry.key)) throw new ConfigError(`${source}, entry ${index + 1}: this key was given before`);
    seen.add(entry.key);
    return entry;
  });
}

function withKeyDefaults(item: unknown): { key: unknown; scopes: unknown; eventsPerSecond: unknown } | undefined {
  if (typeof item !== 'object' || item === null || !('key' in item)) return undefined;
  return { scopes: SCOPES, eventsPerSecond: undefined, ...item };
}

function schemaError(values: Record<string, unknown>, settings: Settings): ConfigError {
  const [error] = validator.Errors(values);
  const [, name = '', index] = (error?.instancePath ?? '').split('/');
  if (!isOptionName(name)) return new ConfigError(`the configuration is not valid: ${error?.message ?? 'unknown'}`);
  const source = settings.get(name)?.source ?? flagName(name);
  const option = optionOf(name);
  if (option.kind === 'keys') {
    return valueError(option, index === undefined ? source : `${source}, entry ${Number(index) + 1}`);
  }
  return valueError(option, source, settings.get(name)?.value);
}

function valueError(option: Option, source: string, value?: unknown): ConfigError {
  const got = option.secret === true || value === undefined ? '' : `, got ${JSON.stringify(value)}`;
  return new ConfigError(`${source}: expected ${expectation(option)}${got}`);
}

/** What an option's schema demands, in words that follow "expected". */
function expectation(option: Option): string {
  if (option.expects !== undefined) return option.expects;
  const { minimum, maximum, enum: choices } = option.schema as { minimum?: number; maximum?: number; enum?: string[] };
  if (choices !== undefined) return `one of ${choices.join(', ')}`;
  const show = option.kind === 'bytes' ? formatBytes : String;
  const top = maximum === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${show(maximum ?? 0)}`;
  switch (option.kind) {
    case 'integer':
      return `a whole number from ${minimum} to ${maximum}`;
    case 'bytes':
      return `a size such as 1048576, 512KiB, 64MiB or 8GiB, at least ${show(minimum ?? 0)}${top}`;
    case 'boolean':
      return 'true or false';
    default:
      return 'text that is not empty';
  }
}

function checkRelations(config: Config, settings: Settings): void {
  const say = (name: OptionName) => settings.get(name)?.source ?? environmentName(name);
  if (config.bodyMaxBytes * 2 > config.inFlightMaxBytes) {
    const [body, flight] = [formatBytes(config.bodyMaxBytes), formatBytes(config.inFlightMaxBytes)];
    throw new ConfigError(
      `${say('bodyMaxBytes')}: ${body} is more than half of ${say('inFlightMaxBytes')} (${flight}), so that two bodies of that size could never be taken at once`,
    );
  }
  // Said here, where both options can be named, rather than by the second listener.
  if (config.port !== 0 && config.port === config.adminPort) {
    throw new ConfigError(`${say('adminPort')}: ${config.adminPort} is the port of ${say('port')} too`);
  }
  if (/^(system|information_schema)$/i.test(config.clickhouseDatabase)) {
    throw new ConfigError(`${say('clickhouseDatabase')}: ${config.clickhouseDatabase} belongs to ClickHouse itself`);
  }
}

/** Shorter keys can be tried out over the network within a reasonable time. */
const KEY_ADVISED_CHARS = 16;

/** What is allowed but probably not wanted, a line each; without secrets. */
export function configWarnings(config: Config): string[] {
  const short = config.apiKeys.filter((entry) => entry.key.length < KEY_ADVISED_CHARS).length;
  if (short === 0) return [];
  return [`${environmentName('apiKeys')}: ${short} of the keys have fewer than ${KEY_ADVISED_CHARS} characters`];
}

/** One option as documentation shows it. */
export interface OptionRow {
  readonly name: OptionName;
  readonly group: OptionGroup;
  readonly kind: Option['kind'];
  readonly flag: string;
  readonly variable: string;
  /** The default in words; empty where there is none. */
  readonly default: string;
  /** The default as one would write it; `undefined` where it is absent or depends on the machine. */
  readonly defaultValue: string | undefined;
  readonly expects: string;
  readonly help: string;
}

/** Every option in the order of its group, for `--help`, README and `.env.example`. */
export function optionTable(): readonly OptionRow[] {
  return OPTION_NAMES.map((name) => {
    const option = optionOf(name);
    const value = option.defaultText === undefined ? textOf(option) : undefined;
    return {
      name,
      group: option.group,
      kind: option.kind,
      flag: flagName(name),
      variable: environmentName(name),
      default: value ?? option.defaultText ?? '',
      defaultValue: value,
      expects: expectation(option),
      help: option.help,
    };
  });
}

function textOf({ kind, default: value }: Option): string {
  if (kind === 'bytes' && typeof value === 'number') return formatBytes(value);
  return Array.isArray(value) ? value.join(',') : String(value);
}

const REDACTED = '[redacted]';

/** The configuration for a log: every option, secrets replaced. */
export function redactedConfig(config: Config): Record<string, unknown> {
  return {
    ...config,
    clickhouseUrl: config.clickhouseUrl ?? 'embedded',
    clickhousePassword: config.clickhousePassword === undefined ? undefined : REDACTED,
    apiKeys: config.apiKeys.map((entry) => ({ ...entry, key: REDACTED })),
  };
}
