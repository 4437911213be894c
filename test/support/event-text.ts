import fc from 'fast-check';
import { EVENT_LIMITS } from '../../src/shared/limits.js';

/** Valid events, and all the ways to write one down. */
export interface EventFields {
  readonly event_name: string;
  readonly channel: string;
  readonly user_id: string;
  readonly timestamp: number;
  readonly campaign_id?: string | null;
  readonly tags?: readonly string[] | null;
  readonly metadata?: Readonly<Record<string, unknown>> | null;
}

/** Text of Unicode scalar values of at most `maxBytes` of UTF-8; now and then exactly that long. */
function text(minBytes: number, maxBytes: number): fc.Arbitrary<string> {
  const any = fc
    .string({ unit: 'binary', minLength: minBytes, maxLength: Math.min(40, maxBytes) })
    .filter((value) => Buffer.byteLength(value) <= maxBytes);
  const longest = fc.constantFrom(
    'a'.repeat(maxBytes),
    '€'.repeat(Math.floor(maxBytes / 3)),
    '😀'.repeat(Math.floor(maxBytes / 4)),
  );
  return fc.oneof({ weight: 20, arbitrary: any }, { weight: 1, arbitrary: longest });
}

const tags = fc.oneof(
  { weight: 10, arbitrary: fc.array(text(1, EVENT_LIMITS.tagMaxBytes), { maxLength: 5 }) },
  { weight: 1, arbitrary: fc.constant(Array.from({ length: EVENT_LIMITS.tagsMax }, () => '€'.repeat(42))) },
);

/** Objects whose members JSON.stringify writes in the order in which JSON.parse would see them. */
const metadata = fc
  .dictionary(fc.string({ unit: 'binary', maxLength: 8 }), fc.jsonValue({ maxDepth: 3, stringUnit: 'binary' }), {
    maxKeys: 5,
    noNullPrototype: true,
  })
  .map((value) => JSON.parse(JSON.stringify(value)) as Record<string, unknown>)
  .filter((value) => Buffer.byteLength(JSON.stringify(value)) <= 4096);

export const anyEvent: fc.Arbitrary<EventFields> = fc.record(
  {
    event_name: text(1, EVENT_LIMITS.eventNameMaxBytes).filter((name) => name !== '*'),
    channel: fc.constantFrom('web', 'mobile', 'api', 'email', 'push'),
    user_id: text(1, EVENT_LIMITS.userIdMaxBytes),
    timestamp: fc.oneof(
      fc.integer({ min: 1, max: 1_800_000_000 }),
      fc.integer({ min: 100_000_000_000, max: 1_800_000_000_000 }),
    ),
    campaign_id: fc.option(text(0, EVENT_LIMITS.campaignIdMaxBytes)),
    tags: fc.option(tags),
    metadata: fc.option(metadata),
  },
  { requiredKeys: ['event_name', 'channel', 'user_id', 'timestamp'], noNullPrototype: true },
);

/** Draws from an endless stream of numbers. */
export class Choices {
  readonly #numbers: Iterator<number>;

  constructor(numbers: Iterable<number>) {
    this.#numbers = numbers[Symbol.iterator]();
  }

  /** A number below `bound`. */
  below(bound: number): number {
    const { value } = this.#numbers.next() as { value: number };
    return value % bound;
  }

  space(): string {
    const spaces = ['', '', '', ' ', '\n', '\t', '\r\n', '  \t'];
    return spaces[this.below(spaces.length)] ?? '';
  }

  shuffled<T>(items: readonly T[]): T[] {
    const rest = [...items];
    const out: T[] = [];
    while (rest.length > 0) out.push(...rest.splice(this.below(rest.length), 1));
    return out;
  }
}

/** A string token, some characters of it as escapes. */
export function spellString(value: string, choices: Choices): string {
  let out = '"';
  for (let i = 0; i < value.length; i += 1) {
    const unit = value[i] ?? '';
    const isHigh = unit >= '\ud800' && unit <= '\udbff';
    const character = isHigh ? unit + (value[i + 1] ?? '') : unit;
    if (isHigh) i += 1;
    const plain = JSON.stringify(character).slice(1, -1);
    out += choices.below(4) === 0 ? escapeUnits(character, choices) : plain;
  }
  return `${out}"`;
}

function escapeUnits(character: string, choices: Choices): string {
  if (character === '/' && choices.below(2) === 0) return '\\/';
  return character
    .split('')
    .map((unit) => {
      const hex = unit.charCodeAt(0).toString(16).padStart(4, '0');
      return `\\u${choices.below(2) === 0 ? hex : hex.toUpperCase()}`;
    })
    .join('');
}

/** JSON text of a value in a layout of chance; members keep their order. */
export function spellValue(value: unknown, choices: Choices): string {
  const spaced = (inner: string): string => choices.space() + inner + choices.space();
  if (typeof value === 'string') return spellString(value, choices);
  if (Array.isArray(value))
    return `[${value.length === 0 ? choices.space() : value.map((item) => spaced(spellValue(item, choices))).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(
    ([name, item]) => `${spaced(spellString(name, choices))}:${spaced(spellValue(item, choices))}`,
  );
  return `{${members.length === 0 ? choices.space() : members.join(',')}}`;
}

/**
 * JSON text of an event: members in any order, white space anywhere, any character of a string as an escape, the timestamp
 * in any spelling. Of metadata only the white space varies: its text is content.
 */
export function layOut(event: EventFields, numbers: Iterable<number>): string {
  const choices = new Choices(numbers);
  const members = choices.shuffled(Object.entries(event)).map(([name, value]) => {
    const spelt =
      name === 'timestamp'
        ? spellInteger(value as number, choices)
        : name === 'metadata'
          ? spaceOut(JSON.stringify(value), choices)
          : spellValue(value, choices);
    return `${choices.space()}${spellString(name, choices)}${choices.space()}:${choices.space()}${spelt}${choices.space()}`;
  });
  return `${choices.space()}{${members.join(',')}}${choices.space()}`;
}

function spellInteger(value: number, choices: Choices): string {
  const digits = String(value);
  const spellings = [
    digits,
    `${digits}.0`,
    `${digits}e0`,
    `${digits[0]}.${digits.slice(1) || '0'}E+${digits.length - 1}`,
    `${digits}0e-1`,
  ];
  return spellings[choices.below(spellings.length)] ?? digits;
}

/** White space between the tokens of compact JSON text. */
function spaceOut(compact: string, choices: Choices): string {
  return compact.replaceAll(
    /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^"{}[\],:]+/g,
    (token) => choices.space() + token + choices.space(),
  );
}
