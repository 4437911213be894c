/** Puts what the compiler does not know about beside its output: the two files of the API page. */
import { copyFileSync, mkdirSync } from 'node:fs';

const target = new URL('../dist/assets/', import.meta.url);
mkdirSync(target, { recursive: true });
for (const file of ['swagger-ui.css', 'swagger-ui-bundle.js']) {
  copyFileSync(new URL(`../node_modules/swagger-ui-dist/${file}`, import.meta.url), new URL(file, target));
}
