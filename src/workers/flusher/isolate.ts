/**
 * Finds the rows of a refused batch that ClickHouse does not take. The error often names a row: that one is tried alone, the
 * rest on both sides of it; without a name the batch is halved. Every part that is taken is stored for good.
 */
export interface Isolated<E> {
  /** Index of the row in the batch. */
  readonly row: number;
  /** What ClickHouse says to this row alone. */
  readonly error: E;
}

/** From, up to and not including. */
export type Part = readonly [from: number, to: number];

/** The parts to try next in place of one that was refused, in order; a part of one row is not split. */
export function split([from, to]: Part, message: string): Part[] {
  const named = namedRow(message);
  if (named === undefined || from + named >= to) {
    const middle = Math.floor((from + to) / 2);
    return [
      [from, middle],
      [middle, to],
    ];
  }
  const row = from + named;
  const parts: Part[] = [
    [from, row],
    [row, row + 1],
    [row + 1, to],
  ];
  return parts.filter(([a, b]) => a < b);
}

/** The row, from 0, that a message names: "… is violated at row 17. Expression: …" counts from 1. */
function namedRow(message: string): number | undefined {
  const row = / at row (\d+)\b/.exec(message)?.[1];
  return row === undefined || row === '0' ? undefined : Number(row) - 1;
}

/**
 * `store` stores a part, or returns why not. `refusal` is what it said to the whole. Parts are stored in order, so that the
 * same batch, taken apart again after a crash, comes apart in the same way.
 */
export async function isolate<E extends Error>(
  rows: number,
  refusal: E,
  store: (from: number, to: number) => Promise<E | undefined>,
): Promise<Isolated<E>[]> {
  const isolated: Isolated<E>[] = [];
  if (rows === 1) return [{ row: 0, error: refusal }];
  const open = split([0, rows], refusal.message).reverse();
  for (let part = open.pop(); part !== undefined; part = open.pop()) {
    const [from, to] = part;
    const error = await store(from, to);
    if (error === undefined) continue;
    if (to - from === 1) isolated.push({ row: from, error });
    else open.push(...split(part, error.message).reverse());
  }
  return isolated;
}
