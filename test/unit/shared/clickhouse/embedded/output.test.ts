import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';

import { pino } from 'pino';

import { ChildOutput } from '../../../../../src/shared/clickhouse/embedded/output.js';

interface Relayed {
  readonly level: number;
  readonly clickhouse?: string;
}

async function relay(
  chunks: readonly string[],
  options: { secrets?: readonly string[]; complain?: boolean } = {},
): Promise<{ lines: Relayed[]; tail: readonly string[] }> {
  const lines: Relayed[] = [];
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(JSON.parse(line) as Relayed) });
  const output = new ChildOutput(log, options.secrets ?? []);
  if (options.complain ?? true) output.nowComplain();
  const stream = new PassThrough();
  output.follow(stream);
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  await once(stream, 'end');
  return { lines, tail: output.tail };
}

const said = (lines: readonly Relayed[]): (string | undefined)[] => lines.map((line) => line.clickhouse);

test('lines are put together over chunks, the last one without its end too', async () => {
  const { lines, tail } = await relay(['one\ntw', 'o\n', '\n  \nthr', 'ee']);
  assert.deepEqual(said(lines), ['one', 'two', 'three']);
  assert.deepEqual(tail, ['one', 'two', 'three']);
});

test('complaints are warnings once the server is up, and debug before', async () => {
  const printed = ['2026.11.20 [1] {} <Error> a: b\n', 'Code: 60. DB::Exception\n', 'other\n'];
  assert.deepEqual(
    (await relay(printed)).lines.map((line) => line.level),
    [40, 40, 20],
  );
  assert.deepEqual(
    (await relay(printed, { complain: false })).lines.map((line) => line.level),
    [20, 20, 20],
  );
});

test('stack frames are left out', async () => {
  const { lines } = await relay(['0. ? @ 0x000000001c8edff3\n17. start_thread @ 0x00000000000891f5\nkept\n']);
  assert.deepEqual(said(lines), ['kept']);
});

test('secrets are blanked out of the log and of the tail', async () => {
  const { lines, tail } = await relay(['a s3cret b s3cret\n'], { secrets: ['s3cret', '', 'b'] });
  assert.deepEqual(said(lines), ['a [hidden] b [hidden]']);
  assert.deepEqual(tail, ['a [hidden] b [hidden]']);
});

test('a secret at the cut of a long line does not show in part', async () => {
  const { lines } = await relay([`${'x'.repeat(995)}s3cret\n`, `${'y'.repeat(995)}s3cr`, 'et\n'], {
    secrets: ['s3cret'],
  });
  for (const line of said(lines)) assert.doesNotMatch(line ?? '', /s3c/);
});

test('a line without end, a burst of lines and the tail are bounded', async () => {
  const endless = await relay(Array.from({ length: 1_000 }, () => 'x'.repeat(1_000)));
  assert.deepEqual(
    said(endless.lines).map((line) => line?.length),
    [1_000],
  );
  const burst = await relay([Array.from({ length: 10_000 }, (_, index) => `line ${index}\n`).join('')]);
  assert.equal(burst.lines.length, 50);
  assert.equal(burst.tail.length, 20);
  assert.equal(burst.tail.at(-1), 'line 9999');
});
