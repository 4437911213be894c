import fc from 'fast-check';

/** Bytes that are nearly JSON: what walks over text has to survive. */

const SNIPPETS = [
  '{',
  '}',
  '[',
  ']',
  '"',
  '\\',
  ',',
  ':',
  ' ',
  '\n',
  '1',
  '-',
  'e',
  'null',
  '\\u',
  '\\ud800',
  '"metadata"',
  '"events"',
  '{}',
  '[]',
  '\0',
  '\ufeff',
].map((text) => Buffer.from(text));

const mutation = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at: fc.nat(), byte: fc.nat(255) }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), length: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), snippet: fc.constantFrom(...SNIPPETS) }),
  fc.record({ kind: fc.constant('end' as const), at: fc.nat() }),
);
type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never;

function mutate(bytes: Buffer, change: Mutation): Buffer {
  const at = change.at % (bytes.length + 1);
  switch (change.kind) {
    case 'set': {
      const changed = Buffer.from(bytes);
      if (at < changed.length) changed[at] = change.byte;
      return changed;
    }
    case 'cut':
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + change.length)]);
    case 'insert':
      return Buffer.concat([bytes.subarray(0, at), change.snippet, bytes.subarray(at)]);
    case 'end':
      return Buffer.from(bytes.subarray(0, at));
  }
}

/** A text with up to `most` small changes; none now and then. */
export function mutated(text: fc.Arbitrary<string>, most = 3): fc.Arbitrary<Buffer> {
  return fc
    .tuple(text, fc.array(mutation, { maxLength: most }))
    .map(([whole, changes]) => changes.reduce(mutate, Buffer.from(whole)));
}

const snippets = fc.array(fc.constantFrom(...SNIPPETS), { maxLength: 30 }).map((parts) => Buffer.concat(parts));

/** Mutated JSON, rows of its tokens, or nothing like it. */
export const anyBytes: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 3, arbitrary: mutated(fc.json()) },
  { weight: 2, arbitrary: snippets },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)) },
);

export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
