/**
 * The embedded server's place on disk, all of it for our user alone:
 *
 *     <dataDir>/clickhouse/             0700
 *       password                        0600, only where the operator set none
 *       config.xml, users.xml           0600, written anew before each start
 *       data/                           ClickHouse's
 */
import { randomBytes } from 'node:crypto';
import { chmod, link, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';

export interface Home {
  readonly path: string;
  readonly configPath: string;
  readonly usersPath: string;
  readonly passwordPath: string;
  readonly dataPath: string;
}

export async function prepareHome(dataDir: string): Promise<Home> {
  const path = join(resolve(dataDir), 'clickhouse');
  const home: Home = {
    path,
    configPath: join(path, 'config.xml'),
    usersPath: join(path, 'users.xml'),
    passwordPath: join(path, 'password'),
    dataPath: join(path, 'data'),
  };
  await mkdir(home.dataPath, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
  return home;
}

/** Replaces the file in one step, so that a reader sees the old content or the new. */
export async function writePrivate(path: string, content: string): Promise<void> {
  const temporary = await writeTemporary(path, content);
  await rename(temporary, path);
}

/** The password made at the first start. Two first starts at once end up with the same one. */
export async function keptPassword(passwordPath: string): Promise<string> {
  const kept = await readPassword(passwordPath);
  if (kept !== undefined) return kept;
  const temporary = await writeTemporary(passwordPath, `${randomBytes(24).toString('base64url')}\n`);
  try {
    await link(temporary, passwordPath);
    await syncDirectory(dirname(passwordPath));
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  const made = await readPassword(passwordPath);
  if (made === undefined) throw new Error(`${passwordPath} disappeared while it was being made`);
  return made;
}

async function readPassword(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw new Error(`cannot read the embedded ClickHouse's password from ${path}`, { cause: error });
  }
  const password = text.trimEnd();
  if (password === '') throw new Error(`${path} is empty: delete it to have a new password made`);
  await chmod(path, 0o600);
  return password;
}

async function writeTemporary(path: string, content: string): Promise<string> {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(content, 'utf8');
    await file.sync();
  } finally {
    await file.close();
  }
  return temporary;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The process that ClickHouse noted as the directory's user, if it can be read: for the error message only. */
export async function notedOwner(home: Home): Promise<string | undefined> {
  try {
    return /PID: (\d+)/.exec(await readFile(join(home.dataPath, 'status'), 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}

/** A port that was free on 127.0.0.1 a moment ago. Whoever takes it in between shows as ClickHouse's Code 210. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(0, '127.0.0.1', done);
  });
  const address = server.address();
  await new Promise<void>((done) => server.close(() => done()));
  if (address === null || typeof address === 'string') throw new Error('a TCP listener without a port');
  return address.port;
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
