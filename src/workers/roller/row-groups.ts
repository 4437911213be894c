import { type Deltas, entryOf, MINUTE_MS } from './deltas.js';
import type { RowGroup } from './rows.js';
import { NO_NUMBER } from './user-numbers.js';

/** Groups of rows as a whole: what needs nothing but the rows and their users' numbers. */

/** When row `i` happened, Unix seconds. */
export function secondOf(timestamps: Float64Array, i: number): number {
  return Math.floor((timestamps[i] ?? 0) / 1000);
}

/** All rows, where nothing of them was counted; users without a number are left out. */
export function addAll(groups: readonly RowGroup[], uids: readonly Uint32Array[], deltas: Deltas): void {
  for (const [index, { eventName, channel, count, timestamps }] of groups.entries()) {
    const minutes = deltas.group(eventName, channel);
    const column = uids[index];
    let last = -1;
    let cell = 0;
    for (let i = 0; i < count; i += 1) {
      const uid = column?.[i] ?? NO_NUMBER;
      if (uid === NO_NUMBER) continue;
      const second = secondOf(timestamps, i);
      const minute = Math.floor(second / 60);
      if (minute !== last) {
        last = minute;
        cell = deltas.cell(minutes, minute);
      }
      deltas.add(cell, second - minute * 60, uid);
    }
  }
}

/** The rows of a group as entries of their minutes; users without a number are left out. */
export function entriesByMinute({ count, timestamps }: RowGroup, uids: Uint32Array | undefined): Map<number, number[]> {
  const minutes = new Map<number, number[]>();
  for (let i = 0; i < count; i += 1) {
    const uid = uids?.[i] ?? NO_NUMBER;
    if (uid === NO_NUMBER) continue;
    const timestamp = timestamps[i] ?? 0;
    const minute = Math.floor(timestamp / MINUTE_MS);
    const entries = minutes.get(minute);
    if (entries === undefined) minutes.set(minute, [entryOf(timestamp, uid)]);
    else entries.push(entryOf(timestamp, uid));
  }
  return minutes;
}

/** The rows of a group from `edgeMs` on. */
export function since(group: RowGroup, edgeMs: number): RowGroup {
  let least = Infinity;
  for (let i = 0; i < group.count; i += 1) least = Math.min(least, group.timestamps[i] ?? 0);
  if (least >= edgeMs) return group;
  const kept = [...group.timestamps.keys()].filter((i) => (group.timestamps[i] ?? 0) >= edgeMs);
  const words = (column: Uint32Array): Uint32Array =>
    Uint32Array.from(kept.flatMap((i) => [...column.subarray(i * 4, i * 4 + 4)]));
  return {
    ...group,
    count: kept.length,
    timestamps: Float64Array.from(kept, (i) => group.timestamps[i] ?? 0),
    eventIds: words(group.eventIds),
    users: words(group.users),
  };
}
