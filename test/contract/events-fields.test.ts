import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { type Answered, assertAccepted, assertInvalid, event, postEvent, TIMESTAMP } from '../support/requests.js';
import { Service } from '../support/service.js';

/** api.md, "POST /events": each field's rule, at its edges. */

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.dispose());

const post = (members: Readonly<Record<string, unknown>>): Promise<Answered> => postEvent(service, event(members));
/** As JSON text, for spellings that JSON.stringify does not write. */
const postTimestamp = (spelling: string): Promise<Answered> =>
  postEvent(service, `{"event_name":"a","channel":"web","user_id":"u","timestamp":${spelling}}`);

async function accepts(field: string, values: readonly unknown[]): Promise<void> {
  for (const value of values) assertAccepted(await post({ [field]: value }));
}

async function refuses(field: string, values: readonly unknown[], path = `/${field}`): Promise<void> {
  for (const value of values) assertInvalid(await post({ [field]: value }), path);
}

describe('required fields', () => {
  for (const field of ['event_name', 'channel', 'user_id', 'timestamp']) {
    test(`${field} is refused where it is absent or null`, async () => {
      assertInvalid(await post({ [field]: undefined }), `/${field}`);
      assertInvalid(await post({ [field]: null }), `/${field}`);
    });
  }

  test('every field that is wrong is named, in one answer', async () => {
    const answer = assertInvalid(await postEvent(service, '{"event_name":1,"nonsense":2}'), '/event_name');
    const paths = answer.body.details?.map(({ path }) => path);
    assert.deepEqual(paths, ['/event_name', '/channel', '/user_id', '/timestamp', '/nonsense']);
  });
});

describe('lengths are bytes of UTF-8', () => {
  /** 1, 2, 3 and 4 bytes each; the last one is two UTF-16 units. */
  const characters = ['x', 'é', '€', '😀'];
  const ofBytes = (character: string, bytes: number): string => {
    const width = Buffer.byteLength(character);
    return 'a'.repeat(bytes % width) + character.repeat(Math.floor(bytes / width));
  };
  for (const [field, most] of [
    ['event_name', 128],
    ['user_id', 256],
    ['campaign_id', 256],
  ] as const) {
    test(`${field} takes ${most} bytes and not one more`, async () => {
      await accepts(
        field,
        characters.map((character) => ofBytes(character, most)),
      );
      await refuses(
        field,
        characters.map((character) => ofBytes(character, most + 1)),
      );
    });
  }

  test('a tag takes 128 bytes and not one more, and the one that is too long is named', async () => {
    await accepts(
      'tags',
      characters.map((character) => [ofBytes(character, 128)]),
    );
    for (const character of characters) await refuses('tags', [['a', 'b', ofBytes(character, 129)]], '/tags/2');
  });

  test('characters of several code points are counted in bytes all the same', async () => {
    const family = '👨‍👩‍👧‍👦'; // 25 bytes, one grapheme
    await accepts('event_name', [family.repeat(5)]);
    await refuses('event_name', [family.repeat(6)]);
    await accepts('event_name', ['e' + '\u0301'.repeat(63)]);
    await refuses('event_name', ['e' + '\u0301'.repeat(64)]);
  });

  test('escapes are counted as the characters that they stand for', async () => {
    const escaped = (count: number): string =>
      `{"event_name":"${'\\u0061'.repeat(count)}","channel":"web","user_id":"u","timestamp":${TIMESTAMP}}`;
    assertAccepted(await postEvent(service, escaped(128)));
    assertInvalid(await postEvent(service, escaped(129)), '/event_name');
  });
});

describe('names', () => {
  test('event_name is a string that is not empty and not *', async () => {
    await accepts('event_name', ['a', '**', '*a', ' ', '0', 'null', '\u0000', 'имя', '\u{10ffff}']);
    await refuses('event_name', ['', '*', 1, true, {}, [], ['a']]);
  });

  test('user_id is a string that is not empty', async () => {
    await accepts('user_id', ['u', ' ', '*', '0', '😀']);
    await refuses('user_id', ['', 1, 0, false, {}, ['u']]);
  });

  test('channel is one of the list, spelled so', async () => {
    await accepts('channel', ['web', 'mobile', 'api', 'email', 'push']);
    await refuses('channel', ['', 'Web', 'WEB', ' web', 'web ', 'sms', 'we', 1, ['web'], { web: 1 }]);
  });
});

describe('timestamp', () => {
  test('is an integer however it is spelled', async () => {
    for (const spelling of [
      '1723475612',
      '1723475612.0',
      '1.723475612e9',
      '1723475612.000',
      '1723475612E0',
      '17234756120e-1',
      '0.1723475612e+10',
    ]) {
      assertAccepted(await postTimestamp(spelling));
    }
  });

  test('is one moment however it is spelled: one id', async () => {
    const spellings = ['1723475612', '1723475612.0', '1.723475612e9', '1723475612000', '1.723475612e12'];
    const ids = await Promise.all(spellings.map(async (spelling) => assertAccepted(await postTimestamp(spelling))));
    assert.equal(new Set(ids).size, 1);
    assert.notEqual(assertAccepted(await postTimestamp('1723475612001')), ids[0]);
  });

  test('is positive', async () => {
    for (const spelling of ['0', '-1', '-0', '0.0', '-1723475612', '-1e12'])
      assertInvalid(await postTimestamp(spelling), '/timestamp');
    assertAccepted(await postTimestamp('1'));
  });

  test('has no fraction and is no other type', async () => {
    const others = [
      '1723475612.5',
      '1723475612.001',
      '0.5',
      '1e-3',
      '1723475612345.5',
      '"1723475612"',
      '""',
      '[1723475612]',
      '{}',
      'true',
      'false',
    ];
    for (const spelling of others) assertInvalid(await postTimestamp(spelling), '/timestamp');
  });

  test('is milliseconds from 10^11 on, seconds below', async () => {
    assertAccepted(await postTimestamp('100000000000'));
    assertAccepted(await postTimestamp('1e11'));
    // Seconds: the year 5138.
    assertInvalid(await postTimestamp('99999999999'), '/timestamp');
  });

  test('may be ahead of the clock by the tolerance of 60 s, in seconds and in milliseconds', async () => {
    const now = Date.now();
    assertAccepted(await postTimestamp(String(Math.floor(now / 1000) + 59)));
    assertAccepted(await postTimestamp(String(now + 59_000)));
    // The clock goes on while the request is on its way: an hour is room enough on any machine.
    assertInvalid(await postTimestamp(String(Math.floor(now / 1000) + 3600)), '/timestamp');
    assertInvalid(await postTimestamp(String(now + 3_600_000)), '/timestamp');
  });

  test('is refused where it is beyond all clocks', async () => {
    for (const spelling of [
      '1e15',
      '1e22',
      '1e300',
      '1e400',
      '9007199254740993',
      '18446744073709551616',
      '9'.repeat(400),
    ]) {
      assertInvalid(await postTimestamp(spelling), '/timestamp');
    }
  });
});

describe('optional fields', () => {
  test('campaign_id is a string or null, tags strings or null, metadata an object or null', async () => {
    await accepts('campaign_id', ['', 'cmp_987', null]);
    await refuses('campaign_id', [1, false, {}, ['cmp']]);
    await accepts('tags', [[], ['a'], ['a', 'a'], null]);
    await refuses('tags', ['a', 1, {}, true]);
    await accepts('metadata', [{}, { a: { b: [1, null] } }, null]);
    await refuses('metadata', ['{}', 1, [], [{}], true]);
  });

  test('tags are at most 64, none of them empty, each a string', async () => {
    const tags = (count: number): string[] => Array.from({ length: count }, (_, i) => `tag${i}`);
    await accepts('tags', [tags(64)]);
    await refuses('tags', [tags(65)]);
    await refuses('tags', [['a', '']], '/tags/1');
    await refuses('tags', [['a', 'b', 3]], '/tags/2');
    await refuses('tags', [[null], [['a']]], '/tags/0');
  });

  test('metadata is at most 16 KiB as sent, white space and all', async () => {
    const wrap = (metadata: string): string =>
      `{"event_name":"a","channel":"web","user_id":"u","timestamp":${TIMESTAMP},"metadata": ${metadata} }`;
    const filled = (bytes: number): string => `{"k":"${'v'.repeat(bytes - 8)}"}`;
    const spaced = (bytes: number): string => `{"k":${' '.repeat(bytes - 7)}1}`;
    const wide = (bytes: number): string => `{"k":"${'é'.repeat((bytes - 8) / 2)}"}`;
    for (const make of [filled, spaced, wide]) {
      assert.equal(Buffer.byteLength(make(16_384)), 16_384);
      assertAccepted(await postEvent(service, wrap(make(16_384))));
      assertInvalid(await postEvent(service, wrap(make(16_386))), '/metadata');
    }
    assertInvalid(await postEvent(service, wrap(filled(16_385))), '/metadata');
    assertInvalid(await postEvent(service, wrap(filled(1_000_000))), '/metadata');
  });

  test('event_id is a UUID of any version, in either case', async () => {
    const id = randomUUID();
    assert.equal(assertAccepted(await post({ event_id: id })), id);
    assert.equal(assertAccepted(await post({ event_id: id.toUpperCase() })), id);
    await accepts('event_id', ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff']);
    const hex = id.replaceAll('-', '');
    await refuses('event_id', [
      '',
      'x',
      hex,
      `{${id}}`,
      `urn:uuid:${id}`,
      `${id} `,
      ` ${id}`,
      `${id}0`,
      id.slice(1),
      `${id}\n`,
      id.replace(/./, 'g'),
      1,
      {},
    ]);
  });
});

describe('unknown members', () => {
  test('are refused by name, whatever their value', async () => {
    for (const name of [
      'extra',
      'Event_name',
      'event_name ',
      'eventName',
      '',
      '__proto__',
      'constructor',
      'toString',
      'a/b',
      'a~b',
      'ключ',
    ]) {
      for (const value of ['1', 'null', '{}']) {
        const body = `{"event_name":"a","channel":"web","user_id":"u","timestamp":${TIMESTAMP},${JSON.stringify(name)}:${value}}`;
        assertInvalid(await postEvent(service, body), `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`);
      }
    }
  });

  test('an error stays small, however long or many the names are', async () => {
    const members = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`${i}${'é'.repeat(500)}`, i]));
    const answer = await postEvent(service, event(members));
    assert.equal(answer.status, 400);
    assert.ok(answer.text.length < 10_000, String(answer.text.length));
  });
});
