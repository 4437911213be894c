/**
 * An independent count of events: what api.md says about identity and grouping, in a few lines of JavaScript over every row
 * ever inserted. It shares nothing with the code under test but the contract.
 */

export interface EventRow {
  readonly event_id: string;
  readonly event_name: string;
  readonly channel: string;
  readonly user_id: string;
  /** Milliseconds since 1970. */
  readonly ts: number;
  /** Microseconds since 1970. */
  readonly received_at: number;
}

export interface Question {
  readonly event_name: string;
  readonly from?: number;
  readonly to?: number;
  readonly channel?: string;
  readonly group_by?: readonly string[];
}

export interface GroupCount {
  readonly group: string | Record<string, string>;
  readonly total_events: number;
  readonly unique_users: number;
}

/** One row per identity: the version received last; of several received at the same time, the one inserted last. */
export function deduplicate(rows: readonly EventRow[]): EventRow[] {
  const latest = new Map<string, EventRow>();
  for (const row of rows) {
    const identity = JSON.stringify([row.event_id, row.event_name, row.ts]);
    const known = latest.get(identity);
    if (known === undefined || row.received_at >= known.received_at) latest.set(identity, row);
  }
  return [...latest.values()];
}

function matches(row: EventRow, { event_name, from, to, channel }: Question): boolean {
  return (
    (event_name === '*' || row.event_name === event_name) &&
    (from === undefined || row.ts >= from * 1000) &&
    (to === undefined || row.ts < (to + 1) * 1000) &&
    (channel === undefined || row.channel === channel)
  );
}

export function countAll(events: readonly EventRow[], question: Question): Omit<GroupCount, 'group'> {
  const counted = events.filter((row) => matches(row, question));
  return { total_events: counted.length, unique_users: new Set(counted.map((row) => row.user_id)).size };
}

const isTime = (dimension: string): boolean => dimension === 'hour' || dimension === 'day';

function labelOf(row: EventRow, dimension: string): string {
  const iso = new Date(row.ts).toISOString();
  if (dimension === 'hour') return `${iso.slice(0, 13)}:00:00Z`;
  if (dimension === 'day') return iso.slice(0, 10);
  return dimension === 'channel' ? row.channel : row.event_name;
}

export function countGroups(events: readonly EventRow[], question: Question): GroupCount[] {
  const asked = question.group_by ?? [];
  const dimensions = [...asked.filter(isTime), ...asked.filter((dimension) => !isTime(dimension))];
  const groups = new Map<string, { labels: string[]; total: number; users: Set<string> }>();
  for (const row of events) {
    if (!matches(row, question)) continue;
    const labels = dimensions.map((dimension) => labelOf(row, dimension));
    const key = JSON.stringify(labels);
    const group = groups.get(key) ?? { labels, total: 0, users: new Set() };
    group.total += 1;
    group.users.add(row.user_id);
    groups.set(key, group);
  }
  const compareAt = (a: string[], b: string[], time: boolean): number => {
    for (const [index, dimension] of dimensions.entries()) {
      if (isTime(dimension) !== time) continue;
      const order = Buffer.compare(Buffer.from(a[index] ?? ''), Buffer.from(b[index] ?? ''));
      if (order !== 0) return order;
    }
    return 0;
  };
  return [...groups.values()]
    .toSorted(
      (a, b) => compareAt(a.labels, b.labels, true) || b.total - a.total || compareAt(a.labels, b.labels, false),
    )
    .map(({ labels, total, users }) => ({
      group:
        labels.length === 1
          ? (labels[0] ?? '')
          : Object.fromEntries(dimensions.map((dimension, index) => [dimension, labels[index] ?? ''])),
      total_events: total,
      unique_users: users.size,
    }));
}

/** Numbers in [0, 1) that a seed repeats (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
