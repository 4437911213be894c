import type { EventSource } from './event-source.js';

/**
 * The independent count: what was sent, what was acknowledged and under which id, and from that what every metric must be.
 * It knows nothing of the service but the contract, and keeps 17 bytes an event.
 */

export const FATE = {
  unsent: 0,
  /** Sent, and not answered yet or never: it may count. */
  unanswered: 1,
  acknowledged: 2,
  refused: 3,
} as const;

export interface Question {
  /** Undefined = all. */
  readonly eventName?: string;
  readonly channel?: string;
  readonly from?: number;
  readonly to?: number;
  readonly groupBy: readonly Dimension[];
}

export const DIMENSIONS = ['channel', 'hour', 'day', 'event_name'] as const;
export type Dimension = (typeof DIMENSIONS)[number];

export interface Count {
  total: number;
  users: number;
}

const PROBLEMS_KEPT = 20;

export class Tally {
  readonly source: EventSource;
  /** By canonical index. */
  readonly fate: Uint8Array;
  /** Acknowledged events, copies included. */
  acknowledgements = 0;
  /** Identities that were acknowledged. */
  acknowledged = 0;
  /** What the service answered that it must not, the first few. */
  readonly problems: string[] = [];
  problemCount = 0;
  readonly #ids: Buffer;
  readonly #scratch = Buffer.alloc(16);

  constructor(source: EventSource) {
    this.source = source;
    this.fate = new Uint8Array(source.count);
    this.#ids = Buffer.alloc(source.count * 16);
  }

  get unanswered(): number {
    let unanswered = 0;
    for (const fate of this.fate) if (fate === FATE.unanswered) unanswered += 1;
    return unanswered;
  }

  sent(index: number): void {
    const at = this.source.canonical[index] ?? 0;
    if (this.fate[at] === FATE.unsent) this.fate[at] = FATE.unanswered;
  }

  acknowledge(index: number, id: unknown): void {
    this.acknowledgements += 1;
    const at = this.source.canonical[index] ?? 0;
    if (this.source.isBad(index)) this.problem(`event ${index} is invalid and was accepted`);
    if (typeof id !== 'string' || this.#scratch.write(id.replaceAll('-', ''), 'hex') !== 16 || id.length !== 36) {
      this.problem(`event ${index} was acknowledged under no id: ${String(id)}`);
      return;
    }
    const own = this.source.ownId(index);
    if (own !== undefined && own !== id)
      this.problem(`event ${index} was sent with the id ${own} and acknowledged as ${id}`);
    if (this.fate[at] !== FATE.acknowledged) {
      this.fate[at] = FATE.acknowledged;
      this.acknowledged += 1;
      this.#scratch.copy(this.#ids, at * 16);
    } else if (this.#ids.compare(this.#scratch, 0, 16, at * 16, at * 16 + 16) !== 0) {
      this.problem(`event ${index} was acknowledged as ${this.idOf(at)} and, sent again, as ${id}`);
    }
  }

  refuse(index: number, why: string): void {
    const at = this.source.canonical[index] ?? 0;
    if (!this.source.isBad(index)) this.problem(`event ${index} was refused: ${why.slice(0, 300)}`);
    if (this.fate[at] !== FATE.acknowledged) this.fate[at] = FATE.refused;
  }

  problem(what: string): void {
    this.problemCount += 1;
    if (this.problems.length < PROBLEMS_KEPT) this.problems.push(what);
  }

  /** 32 hexadecimal digits. */
  idOf(index: number): string {
    return this.#ids.toString('hex', index * 16, index * 16 + 16);
  }

  /** Every acknowledged identity by its id: answers the index, or -1. */
  index(): (hex: string) => number {
    const size = 2 ** Math.ceil(Math.log2(this.source.count * 2 + 2));
    const table = new Int32Array(size).fill(-1);
    const slotOf = (bytes: Buffer, offset: number): number => bytes.readUInt32LE(offset + 2) & (size - 1);
    for (let i = 0; i < this.source.count; i += 1) {
      if (this.fate[i] !== FATE.acknowledged) continue;
      let slot = slotOf(this.#ids, i * 16);
      while (table[slot] !== -1) slot = (slot + 1) & (size - 1);
      table[slot] = i;
    }
    const wanted = Buffer.alloc(16);
    return (hex) => {
      wanted.write(hex, 'hex');
      for (let slot = slotOf(wanted, 0); ; slot = (slot + 1) & (size - 1)) {
        const found = table[slot] ?? -1;
        if (found === -1 || wanted.compare(this.#ids, found * 16, found * 16 + 16) === 0) return found;
      }
    };
  }

  /** What GET /metrics must answer, by group as `groupKey` writes it. Ungrouped has one group, always. */
  count({ eventName, channel, from, to, groupBy }: Question): Map<string, Count> {
    const { source } = this;
    const name = eventName === undefined ? -1 : source.eventNames.indexOf(eventName);
    const via = channel === undefined ? -1 : source.channels.indexOf(channel);
    const fromMs = from === undefined ? -Infinity : from * 1000;
    const endMs = to === undefined ? Infinity : (to + 1) * 1000;
    const counts = new Map<number, Count & { seen: Uint32Array }>();
    const emptyGroup = (): Count & { seen: Uint32Array } => ({
      total: 0,
      users: 0,
      seen: new Uint32Array((source.users >>> 5) + 1),
    });
    if (groupBy.length === 0) counts.set(0, emptyGroup());
    for (let i = 0; i < source.count; i += 1) {
      const ts = source.timestampMs[i] ?? 0;
      if (this.fate[i] !== FATE.acknowledged || ts < fromMs || ts >= endMs) continue;
      if ((name !== -1 && source.eventName[i] !== name) || (via !== -1 && source.channel[i] !== via)) continue;
      const key = groupNumber(groupBy, (dimension) => this.#part(i, dimension));
      let group = counts.get(key);
      if (group === undefined) counts.set(key, (group = emptyGroup()));
      group.total += 1;
      const user = source.user[i] ?? 0;
      const bit = 1 << (user & 31);
      const word = group.seen[user >>> 5] ?? 0;
      if ((word & bit) !== 0) continue;
      group.seen[user >>> 5] = word | bit;
      group.users += 1;
    }
    return new Map([...counts].map(([key, { total, users }]) => [groupText(key, groupBy, source), { total, users }]));
  }

  #part(index: number, dimension: Dimension): number {
    switch (dimension) {
      case 'channel':
        return this.source.channel[index] ?? 0;
      case 'event_name':
        return this.source.eventName[index] ?? 0;
      case 'hour':
      case 'day':
        return timePart(this.source.timestampMs[index] ?? 0, dimension);
    }
  }
}

/** What names and channels are meant by their numbers. */
export interface Vocabulary {
  readonly eventNames: readonly string[];
  readonly channels: readonly string[];
}

const WIDTH: Readonly<Record<Dimension, number>> = { channel: 256, event_name: 256, hour: 2 ** 24, day: 2 ** 20 };

/** A group as one number, of the numbers of its parts. */
export function groupNumber(groupBy: readonly Dimension[], partOf: (dimension: Dimension) => number): number {
  let key = 0;
  for (const dimension of groupBy) key = key * WIDTH[dimension] + partOf(dimension);
  return key;
}

/** The number of an hour or a day since 1970. */
export function timePart(ms: number, dimension: 'hour' | 'day'): number {
  return Math.floor(ms / (dimension === 'hour' ? 3_600_000 : 86_400_000));
}

/** The `groupKey` of what `groupNumber` has made a number of. */
export function groupText(key: number, groupBy: readonly Dimension[], vocabulary: Vocabulary): string {
  let rest = key;
  const group: Partial<Record<Dimension, string>> = {};
  for (const dimension of groupBy.toReversed()) {
    group[dimension] = labelOf(rest % WIDTH[dimension], dimension, vocabulary);
    rest = Math.floor(rest / WIDTH[dimension]);
  }
  return groupKey(groupBy, group);
}

function labelOf(part: number, dimension: Dimension, { eventNames, channels }: Vocabulary): string {
  switch (dimension) {
    case 'channel':
      return channels[part] ?? '';
    case 'event_name':
      return eventNames[part] ?? '';
    case 'hour':
      return `${new Date(part * 3_600_000).toISOString().slice(0, 13)}:00:00Z`;
    case 'day':
      return new Date(part * 86_400_000).toISOString().slice(0, 10);
  }
}

/** One text for a group, however its members are ordered. */
export function groupKey(groupBy: readonly Dimension[], group: Readonly<Partial<Record<Dimension, string>>>): string {
  return DIMENSIONS.filter((dimension) => groupBy.includes(dimension))
    .map((dimension) => `${dimension}=${group[dimension] ?? ''}`)
    .join(' ');
}
