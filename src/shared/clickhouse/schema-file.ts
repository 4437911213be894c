import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { quoteIdentifier } from './client.js';

/**
 * Reads schema.sql: sections under headings, each a list of statements (its own first comment states the form).
 * What does not fit the form is an error, so that a mistyped heading cannot hide a section.
 */

export interface SchemaVersion {
  /** From 1, without gaps. */
  readonly version: number;
  readonly name: string;
  readonly up: readonly string[];
  readonly down: readonly string[];
}

export interface Schema {
  /** Creates what the bookkeeping needs; applied before anything is asked of it. */
  readonly bookkeeping: readonly string[];
  readonly versions: readonly SchemaVersion[];
}

const SECTION_HEADING = /^-- version (?<version>\d+): (?<name>.+) \((?<direction>up|down)\)$/;
const SECTION_HEADING_ATTEMPT = /^--\s*version\b/i;
const BOOKKEEPING_HEADING = '-- bookkeeping';
const DATABASE_PLACEHOLDER = '{database}';

/** The directory of this file is dist/src/shared/clickhouse or src/shared/clickhouse; schema.sql lies at the top of either. */
function findSchemaFile(from: string = dirname(fileURLToPath(import.meta.url))): string {
  for (let directory = from; ; directory = dirname(directory)) {
    const path = join(directory, 'schema.sql');
    if (existsSync(path)) return path;
    if (dirname(directory) === directory)
      throw new Error(`schema.sql is neither in ${from} nor in a directory above it`);
  }
}

export function readSchema(path: string = findSchemaFile()): Schema {
  return parseSchema(readFileSync(path, 'utf8'));
}

export function parseSchema(text: string): Schema {
  const bookkeeping: string[] = [];
  const versions: { version: number; name: string; up: string[]; down: string[] }[] = [];
  let section: string[] | undefined;
  let statement = '';
  for (const [index, line] of text.split('\n').entries()) {
    const at = `schema.sql line ${index + 1}`;
    if (line.startsWith('--')) {
      if (line !== BOOKKEEPING_HEADING && !SECTION_HEADING_ATTEMPT.test(line)) continue;
      if (statement !== '') throw new Error(`${at}: the statement above does not end in a semicolon`);
      section = line === BOOKKEEPING_HEADING ? bookkeeping : openSection(line, at, versions);
      continue;
    }
    if (line.trim() === '' && statement === '') continue;
    if (section === undefined) throw new Error(`${at}: a statement before the first heading`);
    statement += `${line}\n`;
    if (line.trimEnd().endsWith(';')) {
      section.push(statement.trimEnd().slice(0, -1));
      statement = '';
    }
  }
  if (statement !== '') throw new Error('schema.sql: the last statement does not end in a semicolon');
  for (const { version, up, down } of versions) {
    if (up.length === 0 || down.length === 0)
      throw new Error(`schema.sql: version ${version} lacks its up or down section`);
  }
  return { bookkeeping, versions };
}

function openSection(
  line: string,
  at: string,
  versions: { version: number; name: string; up: string[]; down: string[] }[],
): string[] {
  const groups = SECTION_HEADING.exec(line)?.groups;
  const name = groups?.['name'];
  if (groups === undefined || name === undefined) throw new Error(`${at}: expected "-- version N: name (up|down)"`);
  const version = Number(groups['version']);
  if (groups['direction'] === 'up') {
    if (version !== versions.length + 1) throw new Error(`${at}: expected version ${versions.length + 1}`);
    versions.push({ version, name, up: [], down: [] });
  }
  const entry = versions.at(-1);
  if (entry?.version !== version || entry.name !== name)
    throw new Error(`${at}: a down section follows its up section`);
  return groups['direction'] === 'up' ? entry.up : entry.down;
}

/** A statement of the schema for one database. */
export function forDatabase(statement: string, database: string): string {
  return statement.replaceAll(DATABASE_PLACEHOLDER, () => quoteIdentifier(database));
}
