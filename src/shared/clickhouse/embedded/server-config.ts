/**
 * The embedded server's configuration, as text: pure, so that every line of it can be tested without a server.
 *
 * Invariants:
 * - Nothing is reachable but HTTP on 127.0.0.1, and there only with the exact credentials. `clickhouse local`
 *   authenticates its own session as `default` with an empty password, so that a passwordless `default` must exist; the
 *   `http_handlers` below are what keeps everyone else from being it: a request whose credentials differ in one byte
 *   never reaches a query handler. Behind that, `default` may do no more than the launcher's three statements, unless
 *   it is the configured user itself.
 * - No secret is written here. The values that the handlers compare with come from the child's environment
 *   (`from_env`), the user's password is there as a SHA-256 only.
 */
import { createHash } from 'node:crypto';

/**
 * Environment variables of the child that the configuration refers to. All that differs between two starts is in them, so
 * that a process which tries to start on a directory in use does not change what the one that has it restarts with.
 */
const PORT_ENV = 'PENSTOCK_EMBEDDED_PORT';
const BOOT_TOKEN_ENV = 'PENSTOCK_EMBEDDED_BOOT_TOKEN';
const AUTHORIZATION_ENV = 'PENSTOCK_EMBEDDED_AUTHORIZATION';
const KEY_ENV = 'PENSTOCK_EMBEDDED_KEY';

/** Answers with the boot token: tells our child from whatever else may own the port, without showing it a password. */
export const BOOT_PATH = '/penstock-boot';

/** The user that `clickhouse local` runs its own statements as; the name is fixed in ClickHouse. */
const LAUNCHER_USER = 'default';

/**
 * What the launcher's statements need and no more: the temporary table on standard input (its creation and its engine)
 * and opening the listener. None of it reads, writes or creates anything that outlives the session.
 */
const LAUNCHER_GRANTS = [
  'GRANT SYSTEM LISTEN ON *.*',
  'GRANT CREATE ARBITRARY TEMPORARY TABLE ON *.*',
  'GRANT TABLE ENGINE ON File',
];
const OWNER_GRANTS = ['GRANT ALL ON *.* WITH GRANT OPTION'];

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

export interface ServerConfig {
  /** ClickHouse's own directory, absolute. */
  readonly dataPath: string;
  readonly usersPath: string;
  readonly cores: number;
  /** What this process and its children may use: the machine's memory or the container's limit. */
  readonly memoryBytes: number;
  readonly user: string;
}

/**
 * Half of the memory, as Penstock's own process and the page cache live beside it; at least 1 GiB (a block of 500 000
 * rows being inserted takes a quarter of that), but never so much that the machine itself runs out.
 */
export function serverMemoryLimitBytes(memoryBytes: number): number {
  return Math.floor(Math.max(memoryBytes / 2, Math.min(GiB, memoryBytes * 0.8)));
}

/**
 * Merge threads and the thresholds that go with them. `clickhouse local` starts with 1 or 2 threads in each pool; the
 * thresholds' defaults (8 and 20 free entries) are meant for a pool of 32 and above, and would here forbid every large
 * merge and every mutation, or even the creation of a table.
 */
export function mergePool(cores: number): { threads: number; tasks: number; reserve: number } {
  const threads = Math.max(2, Math.min(16, cores));
  const tasks = threads * 2;
  return { threads, tasks, reserve: Math.floor(tasks / 2) };
}

/** config.xml */
export function renderServerConfig(config: ServerConfig): string {
  const pool = mergePool(config.cores);
  const settings: readonly (readonly [name: string, value: string | number])[] = [
    ['path', `${config.dataPath}/`],
    // Otherwise it is the working directory.
    ['user_files_path', `${config.dataPath}/user_files/`],
    ['users_config', config.usersPath],
    ['listen_host', '127.0.0.1'],
    // An orderly stop waits for idle connections, for 5 s at most whatever the settings say. Clients that have pools
    // take them down before (`@clickhouse/client` after 2.5 s), so that a shorter time would only break requests.
    ['keep_alive_timeout', 10],
    ['max_server_memory_usage', serverMemoryLimitBytes(config.memoryBytes)],
    ['background_pool_size', pool.threads],
    ['background_merges_mutations_concurrency_ratio', 2],
    ['background_common_pool_size', 2],
    ['background_schedule_pool_size', 8],
    ['background_move_pool_size', 1],
    ['background_fetches_pool_size', 1],
    ['mark_cache_size', 128 * MiB],
    ['primary_index_cache_size', 64 * MiB],
    ['index_mark_cache_size', 16 * MiB],
    ['index_uncompressed_cache_size', 0],
    ['uncompressed_cache_size', 0],
    ['mmap_cache_size', 64],
    ['compiled_expression_cache_size', 32 * MiB],
    ['vector_similarity_index_cache_size', 0],
  ];
  return xmlDocument([
    '<logger><console>1</console></logger>',
    fromEnv('http_port', PORT_ENV),
    ...settings.map(([name, value]) => element(name, value)),
    element('merge_tree', [
      element('number_of_free_entries_in_pool_to_lower_max_size_of_merge', pool.reserve),
      element('number_of_free_entries_in_pool_to_execute_mutation', pool.reserve),
      element('number_of_free_entries_in_pool_to_execute_optimize_entire_partition', pool.reserve),
    ]),
    element('http_handlers', httpRules(config.user)),
  ]);
}

/** The first rule that a request fits is the one that answers it. */
function httpRules(user: string): string[] {
  const queries = element('handler', [element('type', 'dynamic_query_handler'), element('query_param_name', 'query')]);
  const refusal = `Code: 516. DB::Exception: ${user}: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)\n`;
  return [
    element('rule', [element('url', BOOT_PATH), staticAnswer(200, fromEnv('response_content', BOOT_TOKEN_ENV))]),
    element('rule', [element('url', '/ping'), staticAnswer(200, element('response_content', 'Ok.\n'))]),
    element('rule', [element('headers', [fromEnv('Authorization', AUTHORIZATION_ENV)]), queries]),
    element('rule', [
      element('headers', [element('X-ClickHouse-User', user), fromEnv('X-ClickHouse-Key', KEY_ENV)]),
      queries,
    ]),
    element('rule', [
      staticAnswer(
        403,
        element('http_response_headers', [element('X-ClickHouse-Exception-Code', 516)]) +
          element('response_content', refusal),
      ),
    ]),
  ];
}

function staticAnswer(status: number, content: string): string {
  return element('handler', [element('type', 'static'), element('status', status), content]);
}

/** The child's whole environment. The values that the configuration refers to are inserted as XML, hence the escape. */
export function childEnvironment(child: {
  readonly httpPort: number;
  readonly bootToken: string;
  readonly user: string;
  readonly password: string;
}): Record<string, string> {
  return {
    // Days and months are UTC wherever the machine is; `clickhouse local` does not read `timezone` from its configuration.
    TZ: 'UTC',
    [PORT_ENV]: String(child.httpPort),
    [BOOT_TOKEN_ENV]: child.bootToken,
    [AUTHORIZATION_ENV]: basicAuthorization(child.user, child.password),
    [KEY_ENV]: escapeXml(child.password),
  };
}

/** RFC 7617, as `@clickhouse/client` and curl send it. */
export function basicAuthorization(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`, 'utf8').toString('base64')}`;
}

/** users.xml */
export function renderUsersConfig(user: string, password: string): string {
  const users =
    user === LAUNCHER_USER
      ? // One user is both: its password is checked by the handlers alone, as the session needs it to be without one.
        [userElement(LAUNCHER_USER, '<no_password/>', OWNER_GRANTS)]
      : [
          userElement(LAUNCHER_USER, '<no_password/>', LAUNCHER_GRANTS),
          userElement(user, element('password_sha256_hex', sha256Hex(password)), OWNER_GRANTS),
        ];
  return xmlDocument([element('profiles', ['<default/>']), element('quotas', ['<default/>']), element('users', users)]);
}

function userElement(name: string, authentication: string, grants: readonly string[]): string {
  return element(name, [
    authentication,
    element('networks', [element('ip', '127.0.0.1')]),
    element('profile', 'default'),
    element('quota', 'default'),
    element(
      'grants',
      grants.map((grant) => element('query', grant)),
    ),
  ]);
}

/**
 * Names the rule that a user name or a password breaks, or undefined. A name is an XML element in users.xml and a part
 * of an HTTP header (which ends at a colon); in the handlers' rules a value that begins with `regex:` would be a pattern.
 */
export function credentialProblem(user: string, password: string): string | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_-]{0,63}$/.test(user)) {
    return 'the user of the embedded ClickHouse must be 1-64 of A-Z a-z 0-9 _ -, beginning with a letter or _';
  }
  if (/\p{Cc}/u.test(password) || password.startsWith('regex:')) {
    return 'the password of the embedded ClickHouse must have no control characters and not begin with "regex:"';
  }
  return undefined;
}

function sha256Hex(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}

/** `content` is text to be escaped, or elements that are XML already. */
function element(name: string, content: string | number | readonly string[]): string {
  const inner = typeof content === 'object' ? content.join('') : escapeXml(String(content));
  return `<${name}>${inner}</${name}>`;
}

function fromEnv(name: string, variable: string): string {
  return `<${name} from_env="${variable}"/>`;
}

function escapeXml(text: string): string {
  return text.replace(/[&<>"'\n]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function xmlDocument(elements: readonly string[]): string {
  return `<clickhouse>\n${elements.map((line) => `  ${line}\n`).join('')}</clickhouse>\n`;
}
