import { randomFillSync } from 'node:crypto';

/** 128 bits, as four unsigned words. */
export type Key = readonly [number, number, number, number];

export function randomKeys(count: number): Key[] {
  const words = randomFillSync(new Uint32Array(count * 4));
  return Array.from({ length: count }, (_, i) => [
    words[i * 4] ?? 0,
    words[i * 4 + 1] ?? 0,
    words[i * 4 + 2] ?? 0,
    words[i * 4 + 3] ?? 0,
  ]);
}
