/** Writes what documentation repeats from the option table: the table in README.md, and `.env.example`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { environmentExample, withOptionTable } from './option-docs.js';

const readme = new URL('../../README.md', import.meta.url);
writeFileSync(readme, withOptionTable(readFileSync(readme, 'utf8')));
writeFileSync(new URL('../../.env.example', import.meta.url), environmentExample());
