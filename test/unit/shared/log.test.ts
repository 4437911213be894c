import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { announce, createLogger, type Logger } from '../../../src/shared/log.js';

type Line = Record<string, unknown>;

/** Collects the lines of a logger. */
function collect(level: Parameters<typeof createLogger>[0]['level'], use: (log: Logger) => void): Line[] {
  const lines: Line[] = [];
  const destination = { write: (text: string) => void lines.push(JSON.parse(text) as Line) };
  use(createLogger({ level, thread: 'shipper', destination }));
  return lines;
}

describe('a line', () => {
  test('names level, time, process, thread and message', () => {
    const [line] = collect('info', (log) => log.info({ segment: 7 }, 'shipped'));
    assert.ok(line);
    assert.deepEqual(Object.keys(line), ['level', 'time', 'pid', 'thread', 'segment', 'msg']);
    assert.equal(line['level'], 'info');
    assert.equal(line['thread'], 'shipper');
    assert.equal(line['msg'], 'shipped');
    assert.ok(Math.abs(Date.parse(String(line['time'])) - Date.now()) < 60_000);
  });

  test('carries an error with its cause', () => {
    const error = new Error('outer', { cause: new Error('inner') });
    const [line] = collect('error', (log) => log.error({ err: error }, 'failed'));
    const logged = line?.['err'] as { message: string; stack: string };
    assert.match(logged.message, /outer.*inner/);
    assert.match(logged.stack, /inner/);
  });

  test('never shows a secret, at the top or one level down', () => {
    const secret = 'hunter22';
    const fields = { password: secret, clickhousePassword: secret, authorization: secret, apiKeys: [secret] };
    const lines = collect('info', (log) => {
      log.info(fields, 'top');
      log.info({ config: fields, headers: { Authorization: secret } }, 'nested');
    });
    assert.equal(lines.length, 2);
    assert.ok(!JSON.stringify(lines).includes(secret));
  });

  test('below the level is not printed, an announcement always is', () => {
    const lines = collect('silent', (log) => {
      log.fatal('unseen');
      announce(log, 'listening', { url: 'http://127.0.0.1:1' });
      log.info('unseen');
    });
    assert.equal(lines.length, 1);
    assert.equal(lines[0]?.['msg'], 'listening');
    assert.equal(lines[0]['url'], 'http://127.0.0.1:1');
    assert.equal(lines[0]['level'], 'info');
  });
});

test('a line is out before the process dies on the next statement', () => {
  const script = `
    import { createLogger } from '${new URL('../../../src/shared/log.js', import.meta.url).href}';
    createLogger({ level: 'info', thread: 'log' }).info('last words');
    process.kill(process.pid, 'SIGKILL');
  `;
  const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.equal(signal, 'SIGKILL');
  assert.equal((JSON.parse(stdout) as Line)['msg'], 'last words');
});
