import {
  type Count,
  type Dimension,
  groupNumber,
  groupText,
  type Question,
  timePart,
  type Vocabulary,
} from './tally.js';

/**
 * What was sent and when it was acknowledged, and from that what an answer may say while more is being sent: at least what the
 * asked instance had acknowledged before the answer's `as_of`, at most what had begun to be sent when the answer came. It knows
 * nothing of the service but the contract.
 */

/** What may differ under one identity. */
export interface Version {
  readonly channel: number;
  readonly user: number;
  /** Unix ms at which its first 202 had come, by instance; Infinity where none has. */
  readonly acknowledgedAt: number[];
}

export interface SentEvent {
  readonly index: number;
  readonly name: number;
  readonly timestampMs: number;
  readonly first: Version;
  /** Sent after the first was acknowledged, whatever the instance: it counts in its place. */
  second?: Version;
}

/** Whose answer it is, and what it promises. */
export interface Promised {
  readonly instance: number;
  readonly asOfMs: number;
}

export interface Bounds {
  readonly least: Count;
  readonly most: Count;
}

interface Group {
  least: number;
  most: number;
  readonly leastUsers: Set<number>;
  readonly mostUsers: Set<number>;
}

export class SentEvents {
  readonly vocabulary: Vocabulary;
  readonly #instances: number;
  readonly #events: SentEvent[] = [];

  constructor(vocabulary: Vocabulary, instances: number) {
    this.vocabulary = vocabulary;
    this.#instances = instances;
  }

  get count(): number {
    return this.#events.length;
  }

  at(index: number): SentEvent | undefined {
    return this.#events[index];
  }

  /** To be called before any byte of it is sent. */
  begin(name: number, timestampMs: number, channel: number, user: number): SentEvent {
    const event = { index: this.count, name, timestampMs, first: this.#version(channel, user) };
    this.#events.push(event);
    return event;
  }

  /** The same for its second version. */
  beginSecond(event: SentEvent, channel: number, user: number): Version {
    event.second = this.#version(channel, user);
    return event.second;
  }

  /** Bounds of each group, as `groupKey` writes it; without `promised` for when all is acknowledged, and both are one. */
  bounds(question: Question, promised?: Promised): Map<string, Bounds> {
    const { eventName, channel, from, to, groupBy } = question;
    const { eventNames, channels } = this.vocabulary;
    const name = eventName === undefined ? -1 : eventNames.indexOf(eventName);
    const via = channel === undefined ? -1 : channels.indexOf(channel);
    const fromMs = from === undefined ? -Infinity : from * 1000;
    const endMs = to === undefined ? Infinity : (to + 1) * 1000;
    const groups = new Map<number, Group>();
    if (groupBy.length === 0) groups.set(0, emptyGroup());
    for (const event of this.#events) {
      const { timestampMs, first, second } = event;
      if (timestampMs < fromMs || timestampMs >= endMs || (name !== -1 && event.name !== name)) continue;
      const isPromised = (version: Version): boolean =>
        promised === undefined
          ? version.acknowledgedAt.some((at) => at < Infinity)
          : (version.acknowledgedAt[promised.instance] ?? Infinity) < promised.asOfMs;
      const isSecond = second !== undefined && isPromised(second);
      const versions = second === undefined ? [first] : isSecond ? [second] : [first, second];
      const keys = versions
        .filter((version) => via === -1 || version.channel === via)
        .map((version) => ({ key: groupNumber(groupBy, (dimension) => part(event, version, dimension)), version }));
      let before: Group | undefined;
      for (const { key, version } of keys) {
        let group = groups.get(key);
        if (group === undefined) groups.set(key, (group = emptyGroup()));
        // Of two versions in one group only one counts.
        if (group !== before) group.most += 1;
        group.mostUsers.add(version.user);
        before = group;
      }
      // It surely counts in a group where all of its versions do.
      const [one, other = one] = keys;
      if (one === undefined || other === undefined || keys.length < versions.length || one.key !== other.key) continue;
      if (!isSecond && !isPromised(first)) continue;
      const group = groups.get(one.key);
      if (group === undefined) continue;
      group.least += 1;
      if (one.version.user === other.version.user) group.leastUsers.add(one.version.user);
    }
    return new Map(
      [...groups].map(([key, { least, most, leastUsers, mostUsers }]) => [
        groupText(key, groupBy, this.vocabulary),
        { least: { total: least, users: leastUsers.size }, most: { total: most, users: mostUsers.size } },
      ]),
    );
  }

  #version(channel: number, user: number): Version {
    return { channel, user, acknowledgedAt: Array.from({ length: this.#instances }, () => Infinity) };
  }
}

/** What of these groups is out of bounds, and what is missing where they are all there are. */
export function outOfBounds(
  groups: ReadonlyMap<string, Count>,
  bounds: ReadonlyMap<string, Bounds>,
  areAll: boolean,
): string[] {
  const wrong: string[] = [];
  for (const [key, count] of groups) {
    const { least, most } = bounds.get(key) ?? NOTHING;
    for (const member of ['total', 'users'] as const) {
      if (count[member] < least[member] || count[member] > most[member])
        wrong.push(`${key} ${member} is ${count[member]}, not within ${least[member]} and ${most[member]}`);
    }
  }
  if (!areAll) return wrong;
  for (const [key, { least }] of bounds) {
    if (least.total > 0 && !groups.has(key)) wrong.push(`${key} is missing, with a total of at least ${least.total}`);
  }
  return wrong;
}

const NOTHING: Bounds = { least: { total: 0, users: 0 }, most: { total: 0, users: 0 } };

function emptyGroup(): Group {
  return { least: 0, most: 0, leastUsers: new Set(), mostUsers: new Set() };
}

function part({ name, timestampMs }: SentEvent, { channel }: Version, dimension: Dimension): number {
  if (dimension === 'channel') return channel;
  return dimension === 'event_name' ? name : timePart(timestampMs, dimension);
}
