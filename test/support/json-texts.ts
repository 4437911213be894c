/** JSON texts that parsers stumble over, after RFC 8259: some valid, some not; which is which, JSON.parse decides. */
export const JSON_TEXTS: readonly (string | Buffer)[] = [
  // numbers
  [
    '0',
    '-0',
    '00',
    '01',
    '-01',
    '1.',
    '.1',
    '-.1',
    '1.0',
    '-',
    '+1',
    '1e5',
    '1E+5',
    '1e-5',
    '1e',
    '1e+',
    '1.5e3',
    '0e0',
    '0x1',
  ],
  ['1e400', '-1e400', '1e-400', '123456789012345678901234567890', '9007199254740993', '1723475612.0', '1.723475612e9'],
  ['NaN', 'Infinity', '-Infinity', '1_000', '1 2', '2.', '١'],
  // strings
  ['""', '"a"', '"', '"a', "'a'", '"\\""', '"\\\\"', '"\\"', '"\\/"', '"\\b\\f\\n\\r\\t"', '"\\x41"', '"\\a"', '"\\'],
  [
    '"\\u0041"',
    '"\\u00e9"',
    '"\\u004"',
    '"\\u"',
    '"\\uD83D\\uDE00"',
    '"\\ud83d"',
    '"\\ude00"',
    '"\\ud83d\\u0041"',
    '"\\ude00\\ud83d"',
  ],
  ['"\u0000"', '"\u001f"', '"\n"', '"\t"', '"\u007f"', '"\u2028"', '"é"', '"😀"', '"\\u0000"', '"*"'],
  // literals
  ['true', 'false', 'null', 'True', 'nul', 'nulll', 'truefalse', 'undefined', 'null ', ' null'],
  // arrays and objects
  [
    '[]',
    '[ ]',
    '[1]',
    '[1,]',
    '[,1]',
    '[1,,2]',
    '[1 2]',
    '[',
    ']',
    '[[[[]]]]',
    '["a","b"]',
    '["a",1]',
    '[{}]',
    '[null]',
  ],
  [
    '{}',
    '{ }',
    '{"a":1}',
    '{"a":1,}',
    '{,"a":1}',
    '{"a"}',
    '{"a":}',
    '{:1}',
    '{"a":1 "b":2}',
    '{a:1}',
    "{'a':1}",
    '{',
    '}',
  ],
  [
    '{"a":1,"a":2}',
    '{"a":1,"\\u0061":2}',
    '{"a":{"b":1,"b":1}}',
    '{"a":{"a":{"a":1}}}',
    '{"":1}',
    '{"":1,"":2}',
    '{"a":1,"b":{"a":1}}',
  ],
  [
    '{"__proto__":1}',
    '{"__proto__":{"a":1},"a":1}',
    '{"constructor":1,"toString":2}',
    '{"1":1,"0":2}',
    '{"a":[{"a":1},{"a":1}]}',
  ],
  // white space and what is not
  [
    '',
    ' ',
    '\t\n\r 1',
    '1\u000b',
    '1\u00a0',
    '\ufeff1',
    '1 // a',
    '/* a */ 1',
    '1;',
    '1\u0000',
    '1,',
    ',1',
    '"a" "b"',
    '{} {}',
    '[] 1',
  ],
  // names of members
  ['"metadata"', '"event_name"', '"\\u006detadata"', '"event_id"', '"metadata ": 1, "x"', '"campaign_id"', '"tags"'],
  // depth and width
  '['.repeat(15) + ']'.repeat(15),
  '['.repeat(40) + ']'.repeat(40),
  '['.repeat(20_000),
  '{"a":'.repeat(15) + '1' + '}'.repeat(15),
  '{"a":'.repeat(40) + '1' + '}'.repeat(40),
  `{${Array.from({ length: 32 }, (_, i) => `"k${i}":${i}`).join(',')}}`,
  `{${Array.from({ length: 33 }, (_, i) => `"k${i}":${i}`).join(',')}}`,
  `{"a":"${'x'.repeat(16_384 - 8)}"}`,
  `{"a":"${'x'.repeat(16_384 - 7)}"}`,
  `{"a":1${' '.repeat(16_384 - 7)}}`,
  `{"a":1${' '.repeat(16_384 - 6)}}`,
  // not UTF-8
  [
    [0xff],
    [0xc3],
    [0xc3, 0x28],
    [0xe2, 0x82],
    [0xed, 0xa0, 0x80],
    [0xf8, 0x88, 0x80, 0x80, 0x80],
    [0xc0, 0xaf],
    [0xf4, 0x90, 0x80, 0x80],
  ].map((bytes) => Buffer.concat([Buffer.from('"a'), Buffer.from(bytes), Buffer.from('"')])),
  Buffer.from([0xff]),
  Buffer.from([0x22, 0x80, 0x22]),
].flat();

/** A small seeded generator (mulberry32), so that a failing case can be had again. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }
}

/** Bytes that mean something in JSON, and some that must not be there. */
const TELLING = Buffer.from('"\\{}[],: \n\t0123456789-+.eEtfnul*u/\u0000\u001f\u007f');

/** A copy with one to three bytes changed, removed, doubled, put in, or a stretch moved. */
export function mutate(text: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(text);
  for (let times = 1 + random.below(3); times > 0; times -= 1) {
    const at = random.below(bytes.length + 1);
    const some = random.next() < 0.7 ? (TELLING[random.below(TELLING.length)] ?? 0) : random.below(256);
    const behind = bytes.subarray(at);
    switch (random.below(5)) {
      case 0:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([some]), behind.subarray(1)]);
        break;
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), behind.subarray(1 + random.below(3))]);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([some]), behind]);
        break;
      case 3: {
        const stretch = behind.subarray(0, 1 + random.below(40));
        bytes = Buffer.concat([bytes.subarray(0, at), stretch, behind]);
        break;
      }
      default: {
        const from = random.below(bytes.length + 1);
        const stretch = bytes.subarray(from, from + 1 + random.below(30));
        bytes = Buffer.concat([bytes.subarray(0, at), stretch, behind.subarray(stretch.length)]);
      }
    }
  }
  return bytes;
}
