import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { optionTable } from '../../../src/shared/config.js';
import { LAUNCHER } from '../../support/service.js';

const BIN = fileURLToPath(new URL('../../../src/cli/penstock.js', import.meta.url));

/** Runs the command with nothing in the environment but what is given. */
function penstock(args: readonly string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], ...env },
    timeout: 20_000,
  });
  return { status, stdout, stderr };
}

describe('penstock --help', () => {
  const { status, stdout, stderr } = penstock(['--help']);
  const words = stdout.replaceAll(/\s+/g, ' ');

  test('exits 0 and prints to standard output', () => {
    assert.equal(status, 0);
    assert.equal(stderr, '');
  });

  test('lists every option with its variable, default and help', () => {
    for (const row of optionTable()) {
      assert.ok(stdout.includes(`  ${row.flag} `), row.flag);
      assert.ok(words.includes(`[${row.variable}, default ${row.default}]`), row.variable);
      assert.ok(words.includes(row.help.replaceAll('`', '').replace(/\.$/, '')), row.help);
      assert.ok(stdout.includes(`\n${row.group}:\n`), row.group);
    }
  });

  test('fits into 120 columns where there is no terminal', () => {
    for (const line of stdout.split('\n')) assert.ok(line.length <= 120, line);
  });
});

test('--version prints the version of package.json', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  assert.deepEqual(penstock(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' });
});

describe('what cannot be meant exits 2 with its name on standard error, and starts nothing', () => {
  const cases: readonly (readonly [name: string, args: string[], env: Record<string, string>, stderr: RegExp])[] = [
    ['unknown flag', ['--prot', '9000'], {}, /unknown option '--prot'\n\(Did you mean --port\?\)/],
    ['flag without value', ['--port'], {}, /option '--port <n>' argument missing/],
    ['unknown command', ['sreve'], {}, /unknown command 'sreve'/],
    ['argument too many', ['serve', 'now'], {}, /too many arguments/],
    ['unknown migration', ['migrate', 'sideways'], {}, /unknown command 'sideways'/],
    ['bad flag', ['--port', 'abc'], {}, /^penstock: --port: expected a whole number from 0 to 65535, got "abc"\n$/],
    ['bad flag behind serve', ['serve', '--port=-1'], {}, /^penstock: --port: .*\n$/],
    ['bad variable', [], { PENSTOCK_FLUSH_INTERVAL_MS: 'soon' }, /^penstock: PENSTOCK_FLUSH_INTERVAL_MS: .*\n$/],
    ['unknown variable', [], { PENSTOCK_PROT: '1' }, /^penstock: unknown environment variable PENSTOCK_PROT; .*\n$/],
    ['migrate with a bad variable', ['migrate', 'up'], { PENSTOCK_PORT: 'x' }, /^penstock: PENSTOCK_PORT: .*\n$/],
    ['missing file', ['--config', '/nowhere.json'], {}, /^penstock: --config \/nowhere\.json: cannot be read.*\n$/],
  ];
  for (const [name, args, env, expected] of cases) {
    test(name, () => {
      const { status, stdout, stderr } = penstock(args, env);
      assert.match(stderr, expected);
      assert.equal(stdout, '');
      assert.equal(status, 2);
    });
  }
});

test('migrate without an action explains itself and exits 2', () => {
  const { status, stderr } = penstock(['migrate']);
  assert.equal(status, 2);
  for (const action of ['up', 'down', 'status']) assert.match(stderr, new RegExp(`^  ${action} `, 'm'));
});

test('bin/penstock runs the command, also through a link, with its allocator set and what was set kept', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'penstock-bin-'));
  try {
    const link = path.join(directory, 'penstock');
    symlinkSync(LAUNCHER, link);
    const preload = path.join(directory, 'tell.cjs');
    writeFileSync(preload, 'console.log(JSON.stringify(process.env)); process.exit(3);');
    const run = (env: Record<string, string>) =>
      spawnSync(link, ['--help'], { encoding: 'utf8', env: { PATH: process.env['PATH'], ...env }, timeout: 20_000 });
    const { status, stdout } = run({ NODE_OPTIONS: `--require ${preload}`, MALLOC_ARENA_MAX: '7' });
    assert.equal(status, 3);
    const { MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ } = JSON.parse(
      stdout,
    ) as NodeJS.ProcessEnv;
    assert.deepEqual([MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_], ['7', '73728', '1048576']);
    assert.equal(run({}).stdout, penstock(['--help']).stdout);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
