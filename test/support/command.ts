import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CLICKHOUSE_PASSWORD, CLICKHOUSE_USER } from './service.js';

/** `penstock` as an operator runs it: once, in a process of its own, with what it prints and how it ends. */

const COMMAND = fileURLToPath(new URL('../../src/cli/penstock.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export async function penstock(
  args: readonly string[],
  { dataDir, env = {} }: { readonly dataDir: string; readonly env?: Readonly<Record<string, string>> },
): Promise<Ended> {
  const child = spawn(process.execPath, [COMMAND, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      PENSTOCK_DATA_DIR: dataDir,
      PENSTOCK_CLICKHOUSE_USER: CLICKHOUSE_USER,
      PENSTOCK_CLICKHOUSE_PASSWORD: CLICKHOUSE_PASSWORD,
      PENSTOCK_LOG_LEVEL: 'warn',
      ...env,
    },
  });
  const [stdout, stderr, code] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    new Promise<number | null>((resolve) => child.once('close', resolve)),
  ]);
  return { code, stdout, stderr };
}

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}
