import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { type Config, ConfigError, type Environment, type Flags, loadConfig } from '../../src/shared/config.js';

/** Configurations as the process would read them. */

export function fromEnv(env: Environment): Config {
  return loadConfig({}, env);
}

/** Returns the message. */
export function refuses(env: Environment, message: RegExp, flags: Flags = {}): string {
  let thrown: unknown;
  try {
    loadConfig(flags, env);
  } catch (error) {
    thrown = error;
  }
  assert.ok(thrown instanceof ConfigError, `${JSON.stringify({ env, flags })} was accepted`);
  assert.match(thrown.message, message);
  assert.ok(!thrown.message.includes('\n'), 'one line');
  return thrown.message;
}

const folder = mkdtempSync(path.join(tmpdir(), 'penstock-config-'));
after(() => rmSync(folder, { recursive: true }));

/** A file of options; the same one each time. */
export function file(content: unknown): string {
  const name = path.join(folder, 'options.json');
  writeFileSync(name, typeof content === 'string' ? content : JSON.stringify(content));
  return name;
}
