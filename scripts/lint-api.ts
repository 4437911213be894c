/** Lints the OpenAPI document that an instance with API keys would serve. Needs a build; does not use the network. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../src/shared/config.js';
import { openApiDocument } from '../src/shared/openapi.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'penstock-openapi-'));
try {
  const file = path.join(folder, 'openapi.json');
  const config = loadConfig({ apiKeys: 'an-example-api-key' }, {});
  writeFileSync(file, JSON.stringify(openApiDocument(config), null, 2));
  const redocly = path.join(root, 'node_modules/.bin/redocly');
  const { status } = spawnSync(redocly, ['lint', file, '--config', path.join(root, 'redocly.yaml')], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' },
  });
  process.exitCode = status ?? 1;
} finally {
  rmSync(folder, { recursive: true });
}
