import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  auditEpoch,
  type EpochFacts,
  intersect,
  type Interval,
  type Piece,
  Pieces,
  piecesOf,
  subtract,
} from '../../../../src/cli/audit/arithmetic.js';
import { tries } from '../../../support/property.js';

const SOURCES = ['stored', 'pending', 'dead', 'purged', 'aside'] as const;
type Source = (typeof SOURCES)[number];

function factsOf(pieces: Partial<Record<Source, readonly Piece[]>>, notedRows = 0): EpochFacts {
  const empty = new Pieces();
  const facts = { stored: empty, pending: empty, dead: empty, purged: empty, aside: empty, notedRows };
  for (const source of SOURCES) facts[source] = piecesOf(pieces[source] ?? []);
  return facts;
}

/** [0, n) cut into pieces, each with where it went: to a source, or nowhere. */
const partitions = fc
  .array(fc.record({ rows: fc.integer({ min: 1, max: 50 }), fate: fc.constantFrom(...SOURCES, 'lost' as const) }), {
    minLength: 1,
    maxLength: 40,
  })
  .map((cuts) => {
    let from = 0;
    return cuts.map(({ rows, fate }, at) => {
      const piece = { from, to: from + rows, key: `piece ${at}`, fate };
      from = piece.to;
      return piece;
    });
  });

function bySourceOf(pieces: readonly (Piece & { readonly fate: string })[]): Partial<Record<Source, Piece[]>> {
  return Object.fromEntries(SOURCES.map((source) => [source, pieces.filter(({ fate }) => fate === source)]));
}

/** The sequence numbers of some intervals, one by one: the slow and obvious way. */
function numbersIn(intervals: readonly Interval[]): number[] {
  return intervals.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, i) => from + i));
}

test('the gaps are exactly the pieces that went nowhere, and the counts of all classes add up to what was synced', () => {
  fc.assert(
    fc.property(partitions, fc.integer(), (pieces, seed) => {
      const shuffled = pieces.toSorted((a, b) => ((a.from * 7919 + seed) % 101) - ((b.from * 7919 + seed) % 101));
      const bySource = bySourceOf(shuffled);
      const end = pieces.at(-1)?.to ?? 0;
      const report = auditEpoch(factsOf(bySource, end));
      const lost = pieces.filter(({ fate }) => fate === 'lost');
      assert.deepEqual(numbersIn(report.gaps), numbersIn(lost));
      assert.deepEqual(report.overlaps, []);
      assert.equal(report.synced, end);
      for (const source of SOURCES) assert.equal(report[source], numbersIn(bySource[source] ?? []).length, source);
    }),
    tries(500),
  );
});

test('without a note of the end, what is behind the last piece that is known is not seen, and nothing else is missed', () => {
  fc.assert(
    fc.property(partitions, (pieces) => {
      const report = auditEpoch(factsOf(bySourceOf(pieces)));
      const known = pieces.findLast(({ fate }) => fate !== 'lost')?.to ?? 0;
      assert.equal(report.synced, known);
      const lost = pieces.filter(({ fate, to }) => fate === 'lost' && to <= known);
      assert.deepEqual(numbersIn(report.gaps), numbersIn(lost));
    }),
    tries(300),
  );
});

test('a batch that claims numbers of other batches overlaps with each of them, in exactly those numbers', () => {
  fc.assert(
    fc.property(partitions, fc.nat(), fc.nat(), (pieces, a, b) => {
      const end = pieces.at(-1)?.to ?? 1;
      const from = a % end;
      const intruder = { from, to: from + 1 + (b % (end - from)), key: 'intruder' };
      const { overlaps, gaps } = auditEpoch(factsOf({ stored: [...pieces, intruder] }));
      assert.deepEqual(
        numbersIn(overlaps).toSorted((x, y) => x - y),
        numbersIn([intruder]),
      );
      assert.ok(overlaps.every(({ keys }) => keys.includes('intruder')));
      assert.deepEqual(gaps, []);
    }),
    tries(500),
  );
});

test('the same under the same key is no overlap, however often, nor is what is stored and pending, dead or set aside too', () => {
  fc.assert(
    fc.property(partitions, (pieces) => {
      const stored = [...pieces, ...pieces];
      const {
        overlaps,
        gaps,
        stored: rows,
      } = auditEpoch(factsOf({ stored, pending: pieces, dead: pieces, aside: pieces }));
      assert.deepEqual([overlaps, gaps], [[], []]);
      assert.equal(rows, pieces.at(-1)?.to);
    }),
    tries(200),
  );
});

test('parts of a batch that was taken apart may overlap within it, and with it, but not beyond it', () => {
  const apart = { from: 10, to: 20, key: 'whole', apart: true };
  const whole = { from: 10, to: 20, key: 'whole' };
  const [head, middle, beyond] = [
    { from: 10, to: 15, key: 'head' },
    { from: 12, to: 20, key: 'middle' },
    { from: 19, to: 21, key: 'beyond' },
  ];
  const overlapsOf = (stored: readonly Piece[]) => auditEpoch(factsOf({ stored })).overlaps;
  assert.deepEqual(overlapsOf([head, middle, apart]), []);
  assert.deepEqual(overlapsOf([head, middle, apart, whole]), []);
  assert.deepEqual(overlapsOf([head, middle]), [{ from: 12, to: 15, keys: ['head', 'middle'] }]);
  assert.deepEqual(overlapsOf([middle, beyond, apart]), [{ from: 19, to: 20, keys: ['middle', 'beyond'] }]);
});

test('a batch that was taken apart and of which nothing was stored is a gap', () => {
  const stored = [{ from: 0, to: 5, key: 'a', apart: true }];
  assert.deepEqual(auditEpoch(factsOf({ stored }, 5)).gaps, [{ from: 0, to: 5 }]);
});

test('two segments that claim the same numbers overlap; one segment seen under two names does not', () => {
  const one = { from: 0, to: 10, key: 'segment a' };
  assert.deepEqual(auditEpoch(factsOf({ pending: [one, one] })).overlaps, []);
  assert.equal(auditEpoch(factsOf({ pending: [one, { ...one, key: 'segment b' }] })).overlaps.length, 1);
});

test('differences and intersections of intervals are those of their numbers', () => {
  const runs = partitions.map(
    (pieces) => piecesOf(pieces.filter(({ fate }) => fate === 'stored' || fate === 'dead')).runs,
  );
  fc.assert(
    fc.property(runs, runs, (a, b) => {
      const inB = new Set(numbersIn(b));
      assert.deepEqual(
        numbersIn(subtract(a, b)),
        numbersIn(a).filter((number) => !inB.has(number)),
      );
      assert.deepEqual(
        numbersIn(intersect(a, b)),
        numbersIn(a).filter((number) => inB.has(number)),
      );
    }),
    tries(500),
  );
});
