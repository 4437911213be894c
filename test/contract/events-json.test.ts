import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  type Answered,
  assertAccepted,
  assertInvalid,
  assertRefused,
  event,
  postEvent,
  TIMESTAMP,
} from '../support/requests.js';
import { Service } from '../support/service.js';

/** api.md, "POST /events": what is JSON, what only looks like it, and what JSON.parse would hide. */

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.dispose());

const HEAD = `"event_name":"a","channel":"web","user_id":"u","timestamp":${TIMESTAMP}`;
const withMetadata = (metadata: string): string => `{${HEAD},"metadata":${metadata}}`;
const post = (body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Answered> =>
  postEvent(service, body, headers);

async function refuses(bodies: readonly (string | Uint8Array)[]): Promise<void> {
  for (const body of bodies) {
    const answer = assertRefused(await post(body), 400, 'validation_error');
    assert.ok((answer.body.details?.length ?? 0) > 0, answer.text);
  }
}

describe('the body', () => {
  test('is one JSON object', async () => {
    const one = JSON.stringify(event());
    await refuses([
      '',
      ' ',
      'null',
      'true',
      '1',
      '"a"',
      '[]',
      `[${one}]`,
      '{}',
      `${one}${one}`,
      `${one}\n${one}`,
      `${one},`,
    ]);
  });

  test('is refused where it is not JSON', async () => {
    await refuses([
      '{',
      `{${HEAD}`,
      `{${HEAD},}`,
      `{${HEAD} "tags":[]}`,
      `{${HEAD},"tags":[,]}`,
      `{${HEAD},"tags":["a",]}`,
      `{${HEAD},tags:[]}`,
      `{${HEAD},'tags':[]}`,
      `{${HEAD}}/* comment */`,
      `{${HEAD},"metadata":{"a":NaN}}`,
      `{${HEAD},"metadata":{"a":01}}`,
      `{${HEAD},"metadata":{"a":+1}}`,
      `{${HEAD},"metadata":{"a":.5}}`,
      `{${HEAD},"metadata":{"a":1.}}`,
      `{${HEAD},"metadata":{"a":0x10}}`,
      `{${HEAD},"metadata":{"a":"\t"}}`,
      `{${HEAD},"metadata":{"a":"\\x41"}}`,
      `{${HEAD},"metadata":{"a":"\\u12"}}`,
      `{${HEAD},"metadata":{"a":}}`,
      `{${HEAD},"metadata":{"a"}}`,
      `{${HEAD},"metadata":{1:1}}`,
      `{${HEAD},"metadata":{"a":1]}`,
      `\u00a0{${HEAD}}`,
      `{${HEAD}}\u0000`,
    ]);
  });

  test('may have white space wherever JSON may', async () => {
    assertAccepted(
      await post(
        `\r\n\t {\t"event_name" : "a" ,\n"channel":"web","user_id":"u","timestamp"\r\n:${TIMESTAMP} , "tags" : [ "a" , "b" ] }\n\n`,
      ),
    );
  });

  test('is read as JSON whatever its content type says', async () => {
    for (const type of [
      'text/plain',
      'text/plain;charset=UTF-8',
      'application/x-www-form-urlencoded',
      'application/json; charset=utf-16',
      'application/x-ndjson',
      'image/png',
      'nonsense',
    ]) {
      assertAccepted(await post(JSON.stringify(event()), { 'content-type': type }));
    }
  });
});

describe('members given twice', () => {
  test('are refused by name at the top, even where both say the same', async () => {
    assertInvalid(await post(`{${HEAD},"event_name":"a"}`), '/event_name');
    assertInvalid(await post(`{${HEAD},"tags":[],"tags":[]}`), '/tags');
    assertInvalid(await post(`{${HEAD},"metadata":{},"metadata":{}}`), '/metadata');
    assertInvalid(await post(`{${HEAD},"metadata":null,"metadata":{"a":1}}`), '/metadata');
  });

  test('are refused at any depth of metadata, by the path to them', async () => {
    assertInvalid(await post(withMetadata('{"a":1,"a":2}')), '/metadata/a');
    assertInvalid(await post(withMetadata('{"x":{"y":{"z":1,"k":2,"z":3}}}')), '/metadata/x/y/z');
    assertInvalid(await post(withMetadata('{"x":[0,[1,{"k":1,"k":1}]]}')), '/metadata/x/1/1/k');
    const deep = `${'{"d":'.repeat(300)}{"k":1,"k":2}${'}'.repeat(300)}`;
    assertRefused(await post(withMetadata(deep)), 400, 'validation_error');
  });

  test('are the same member however their names are escaped', async () => {
    assertInvalid(await post(`{${HEAD},"event\\u005fname":"a"}`), '/event_name');
    assertInvalid(await post(withMetadata('{"key":1,"\\u006bey":2}')), '/metadata/key');
    assertInvalid(await post(withMetadata('{"a/b":1,"a\\/b":2}')), '/metadata/a~1b');
    assertInvalid(await post(withMetadata('{"é":1,"\\u00e9":2}')), '/metadata/é');
  });

  test('are no fault in objects beside each other, or where they only look alike', async () => {
    assertAccepted(await post(withMetadata('{"a":{"k":1},"b":{"k":1},"k":[{"k":1},{"k":1}]}')));
    assertAccepted(await post(withMetadata('{"k":"\\"k\\":1,\\"k\\":2","a":":{}[]\\\\"}')));
    assertAccepted(await post(withMetadata('{"e\\u0301":1,"\\u00e9":2,"k":1,"K":2,"":3," ":4}')));
    assertAccepted(await post(withMetadata('{"__proto__":1,"constructor":2,"toString":{"__proto__":{}}}')));
    assertInvalid(await post(withMetadata('{"__proto__":1,"__proto__":2}')), '/metadata/__proto__');
  });
});

describe('names of members', () => {
  test('mean the same where they are escaped', async () => {
    const escaped = `{"\\u0065vent_name":"a","channe\\u006c":"web","user\\u005Fid":"u","timestamp":${TIMESTAMP},"\\u006detadata":{"a":1}}`;
    assert.equal(assertAccepted(await post(escaped)), assertAccepted(await post(withMetadata('{"a":1}'))));
    const tooLong = `{${HEAD},"met\\u0061data":{"k":"${'v'.repeat(17_000)}"}}`;
    assertInvalid(await post(tooLong), '/metadata');
  });
});

describe('text that is not Unicode', () => {
  const bytes = (...parts: readonly (string | readonly number[])[]): Buffer =>
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))));
  const ahead = `{"event_name":"a`;
  const behind = `","channel":"web","user_id":"u","timestamp":${TIMESTAMP}}`;

  test('is refused where it is not valid UTF-8', async () => {
    const sequences = [
      [0xff],
      [0x80], // a continuation alone
      [0xc3], // cut short
      [0xc0, 0xaf], // overlong
      [0xe0, 0x80, 0xaf],
      [0xed, 0xa0, 0x80], // a surrogate
      [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80], // a pair of them: CESU-8
      [0xf4, 0x90, 0x80, 0x80], // beyond U+10FFFF
      [0xf0, 0x9f, 0x98], // cut short
    ];
    await refuses(sequences.map((sequence) => bytes(ahead, sequence, behind)));
    await refuses(sequences.map((sequence) => bytes(`{${HEAD},"metadata":{"k":"`, sequence, '"}}')));
    await refuses(sequences.map((sequence) => bytes(`{${HEAD},"`, sequence, '":1}')));
    await refuses([
      Buffer.from(JSON.stringify(event()), 'utf16le'),
      bytes([0xef, 0xbb, 0xbf], JSON.stringify(event())),
    ]);
  });

  test('is refused where a surrogate stands alone, in a field, a tag, or anywhere in metadata', async () => {
    const lone = [
      '\\ud83d',
      '\\ude00',
      '\\uD83D\\uD83D',
      '\\ude00\\ud83d',
      '\\ud83dx\\ude00',
      '\\ud83d\\n\\ude00',
      '\\ud83d\\\\ude00',
    ];
    for (const escape of lone) {
      await refuses([
        `${ahead}${escape}${behind}`,
        `{${HEAD},"tags":["${escape}"]}`,
        withMetadata(`{"k":"${escape}"}`),
        withMetadata(`{"${escape}":1}`),
        withMetadata(`{"k":[{"j":"a${escape}"}]}`),
      ]);
    }
  });

  test('is no fault where surrogates are paired or the backslash is escaped', async () => {
    for (const text of [
      '\\ud83d\\ude00',
      '\\uD83D\\uDE00',
      '\\\\ud83d',
      '\\\\\\\\ude00',
      '\\ufffd',
      '\\uffff',
      '\\u0000',
      '\\ud7ff\\ue000',
    ]) {
      assertAccepted(await post(`${ahead}${text}${behind}`));
      assertAccepted(await post(withMetadata(`{"${text}":"${text}"}`)));
    }
  });
});

describe('numbers and nesting', () => {
  test('metadata takes any JSON number', async () => {
    const numbers = [
      '1e400',
      '-1e400',
      '1e-400',
      '123456789012345678901234567890',
      '0.1234567890123456789',
      '-0',
      '-0.0',
      '1E+2',
      '9'.repeat(10_000),
    ];
    for (const number of numbers) assertAccepted(await post(withMetadata(`{"n":${number}}`)));
  });

  test('metadata may be as deep as it is long', async () => {
    const nested = (levels: number): string => `{"d":${'['.repeat(levels)}${']'.repeat(levels)}}`;
    for (const levels of [100, 1000, 8000]) assertAccepted(await post(withMetadata(nested(levels))));
    assertRefused(await post(withMetadata(nested(8_200))), 400, 'validation_error');
  });

  test('a body of nothing but brackets is refused, and the next event is taken', async () => {
    for (const bracket of ['[', '{"a":', '[{"a":']) {
      assertRefused(await post(bracket.repeat(Math.floor(1_000_000 / bracket.length))), 400, 'validation_error');
      assertRefused(await post(withMetadata(bracket.repeat(100_000))), 400, 'validation_error');
      assertRefused(await post(`{${HEAD},"deep":${'['.repeat(50_000)}${']'.repeat(50_000)}}`), 400, 'validation_error');
      assertAccepted(await post(JSON.stringify(event())));
    }
  });
});
