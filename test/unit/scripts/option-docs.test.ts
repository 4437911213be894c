import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { optionTable } from '../../../src/shared/config.js';
import { environmentExample, markdownTable, withOptionTable } from '../../../scripts/option-docs.js';

const atRoot = (name: string) => readFileSync(new URL(`../../../../${name}`, import.meta.url), 'utf8');

test('the option table in README.md is in step with the schema (`npm run readme` writes it)', () => {
  const readme = atRoot('README.md');
  assert.equal(readme, withOptionTable(readme));
});

test('.env.example is in step with the schema (`npm run readme` writes it)', () => {
  assert.equal(atRoot('.env.example'), environmentExample());
});

test('both name every option', () => {
  for (const row of optionTable()) {
    assert.ok(markdownTable().includes(`| \`${row.flag}\` | \`${row.variable}\` |`), row.name);
    assert.ok(environmentExample().includes(`\n# ${row.variable}=`), row.name);
  }
});
