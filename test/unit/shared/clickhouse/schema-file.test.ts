import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forDatabase, parseSchema, readSchema } from '../../../../src/shared/clickhouse/schema-file.js';
import { EVENT_COLUMNS } from '../../../../src/shared/event-columns.js';

const SMALL = `-- about this file; not a statement
-- bookkeeping
CREATE TABLE b;

-- version 1: one (up)
-- why
CREATE TABLE a
(
    x String
);
CREATE TABLE c;
-- version 1: one (down)
DROP TABLE a;
-- the end; also a comment
`;

test('sections are found under their headings, without comments', () => {
  assert.deepEqual(parseSchema(SMALL), {
    bookkeeping: ['CREATE TABLE b'],
    versions: [
      { version: 1, name: 'one', up: ['CREATE TABLE a\n(\n    x String\n)', 'CREATE TABLE c'], down: ['DROP TABLE a'] },
    ],
  });
});

test('what does not fit the form is an error that names the line', () => {
  const cases: readonly [string, RegExp][] = [
    ['SELECT 1;', /line 1: a statement before the first heading/],
    ['-- version 2: a (up)\nSELECT 1;', /line 1: expected version 1/],
    ['-- version 1: a (upp)\nSELECT 1;', /line 1: expected "-- version N/],
    ['-- Version 1: a (up)\nSELECT 1;', /line 1: expected "-- version N/],
    ['-- version 1: a (down)\nSELECT 1;', /line 1: a down section follows/],
    ['-- version 1: a (up)\nSELECT 1;\n-- version 1: b (down)\nSELECT 1;', /line 3: a down section follows/],
    ['-- version 1: a (up)\nSELECT 1;', /version 1 lacks/],
    ['-- version 1: a (up)\nSELECT 1\n-- version 1: a (down)\nSELECT 1;', /line 3: the statement above/],
    ['-- version 1: a (up)\nSELECT 1;\n-- version 1: a (down)\nSELECT 1', /the last statement/],
  ];
  for (const [text, message] of cases) assert.throws(() => parseSchema(text), message, text);
});

test('the database is quoted, whatever its name', () => {
  assert.equal(
    forDatabase('CREATE TABLE {database}.a AS {database}.b', 'my`d$&b'),
    'CREATE TABLE `my\\`d$&b`.a AS `my\\`d$&b`.b',
  );
});

test('schema.sql is found from the compiled file and has every column that the encoder writes, in order', () => {
  const create = readSchema().versions[0]?.up.find((statement) => statement.includes('.events\n')) ?? '';
  const columns = [...create.matchAll(/^ {4}([a-z]\w*) +\S/gm)].map(([, name]) => name);
  assert.deepEqual(columns, [...EVENT_COLUMNS]);
});

test('every statement of schema.sql says that it may run twice, and names its database', () => {
  const { bookkeeping, versions } = readSchema();
  for (const statement of [...bookkeeping, ...versions.flatMap(({ up, down }) => up.concat(down))]) {
    assert.match(statement, /IF (NOT )?EXISTS|^ALTER TABLE \S+ (MODIFY|RESET) SETTING /, statement);
    assert.match(statement, /\{database\}\./, statement);
  }
});
