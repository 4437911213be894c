import { randomFrom } from './metrics-model.js';

/**
 * Real-looking events, each a pure function of a seed and its index: any of them can be made again at any time, in another
 * layout of the same content, and none need be kept. What is kept of each is what a count needs: 18 bytes.
 *
 * One in ten is as bare as producers send them: no metadata, no id, a time rounded to the minute and a user of the few
 * busiest. Some of those are equal in content, hence one event by contract; `canonical` says of which they are a copy.
 */

interface Weighted {
  readonly names: readonly string[];
  /** Cumulative, up to 1. */
  readonly upTo: readonly number[];
}

function weighted(weights: Readonly<Record<string, number>>): Weighted {
  const sum = Object.values(weights).reduce((total, weight) => total + weight, 0);
  let reached = 0;
  return { names: Object.keys(weights), upTo: Object.values(weights).map((weight) => (reached += weight) / sum) };
}

const EVENT_NAMES = weighted({
  page_view: 40,
  product_view: 25,
  search: 12,
  add_to_cart: 9,
  checkout_started: 5,
  purchase: 4,
  'größe geändert': 3,
  signup: 2,
});
const CHANNELS = weighted({ web: 50, mobile: 30, api: 10, email: 6, push: 4 });
/** Not a channel: the service must refuse these, and only these. */
const UNKNOWN_CHANNEL = 'fax';
const TAGS = ['new', 'returning', 'eu', 'us', 'black-friday', 'ünïcode', 'a "quoted" one'];

const DAY_MS = 86_400_000;
const DAYS = 5;
/** Where the table's partitions begin to be months. */
const PARTITION_EDGE_MS = Date.UTC(2020, 0, 1);
const BARE_USERS = 40;
const BAD_SHARE = 0.001;

export const LAYOUTS = ['compact', 'spaced', 'escaped', 'multiline'] as const;
export type Layout = (typeof LAYOUTS)[number];

export interface SourceOptions {
  readonly seed: number;
  readonly count: number;
  /** Size of the population from which users are drawn. */
  readonly users?: number;
  /** Unix ms of the newest event. */
  readonly nowMs?: number;
}

const KIND = { usual: 0, ownId: 1, bare: 2, bad: 3 } as const;

export class EventSource {
  readonly seed: number;
  readonly count: number;
  readonly users: number;
  readonly eventNames = EVENT_NAMES.names;
  readonly channels = CHANNELS.names;
  /** By index of the event. */
  readonly eventName: Uint8Array;
  readonly channel: Uint8Array;
  readonly user: Uint32Array;
  readonly timestampMs: Float64Array;
  /** Lowest index of an event of the same identity. */
  readonly canonical: Uint32Array;
  readonly #kind: Uint8Array;

  constructor({ seed, count, users = 40_000, nowMs = Date.now() }: SourceOptions) {
    this.seed = seed;
    this.count = count;
    this.users = users;
    this.eventName = new Uint8Array(count);
    this.channel = new Uint8Array(count);
    this.user = new Uint32Array(count);
    this.timestampMs = new Float64Array(count);
    this.canonical = new Uint32Array(count);
    this.#kind = new Uint8Array(count);
    const bare = new Map<string, number>();
    for (let index = 0; index < count; index += 1) this.#draw(index, nowMs, bare);
  }

  /** The service must refuse it. */
  isBad(index: number): boolean {
    return this.#kind[index] === KIND.bad;
  }

  /** The producer's own id, lower case; undefined where the service derives it. */
  ownId(index: number): string | undefined {
    if (this.#kind[index] !== KIND.ownId) return undefined;
    const random = this.#randomOf(index, 2);
    const hex = Array.from({ length: 8 }, () =>
      Math.floor(random() * 0x10000)
        .toString(16)
        .padStart(4, '0'),
    ).join('');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  }

  userId(index: number): string {
    const user = this.user[index] ?? 0;
    return user % 97 === 0 ? `usuário-${user}` : `u${user}`;
  }

  /** The event as JSON. Without `withId` its own id must go into `Idempotency-Key`. No line breaks but in `multiline`. */
  text(index: number, layout: Layout, withId = true): string {
    const random = this.#randomOf(index, 1);
    const isBare = this.#kind[index] === KIND.bare;
    const space = layout === 'compact' ? '' : layout === 'multiline' ? '\n\t' : ' ';
    const campaign = !isBare && random() < 0.3 ? `spring-sale-${Math.floor(random() * 20)}` : undefined;
    const tags = !isBare && random() < 0.5 ? TAGS.filter(() => random() < 0.3) : [];
    const members = [
      `"event_name":${space}${quoted(EVENT_NAMES.names[this.eventName[index] ?? 0] ?? '', layout)}`,
      `"channel":${space}${quoted(this.isBad(index) ? UNKNOWN_CHANNEL : (CHANNELS.names[this.channel[index] ?? 0] ?? ''), layout)}`,
      `"user_id":${space}${quoted(this.userId(index), layout)}`,
      `"timestamp":${space}${timestampText(this.timestampMs[index] ?? 0, layout)}`,
    ];
    if (campaign !== undefined) members.push(`"campaign_id":${space}${quoted(campaign, layout)}`);
    else if (layout === 'spaced') members.push('"campaign_id": null');
    if (tags.length > 0) members.push(`"tags":${space}[${tags.map((tag) => quoted(tag, layout)).join(`,${space}`)}]`);
    else if (layout !== 'compact') members.push(layout === 'escaped' ? '"tags":[]' : '"tags":null');
    if (!isBare) members.push(`"metadata":${space}${metadataText(index, random, space)}`);
    const id = withId ? this.ownId(index) : undefined;
    if (id !== undefined) members.push(`"event_id":${space}"${layout === 'escaped' ? id.toUpperCase() : id}"`);
    if (layout !== 'compact') members.reverse();
    return `{${space}${members.join(`,${space}`)}${space}}`;
  }

  #draw(index: number, nowMs: number, bare: Map<string, number>): void {
    const random = this.#randomOf(index, 0);
    const kind = random();
    const eventName = pick(EVENT_NAMES, random());
    const channel = pick(CHANNELS, random());
    const skew = random();
    const age = random() ** 1.5 * DAYS * DAY_MS;
    const isBare = kind < 0.1;
    this.#kind[index] = isBare ? KIND.bare : kind < 0.3 ? KIND.ownId : kind > 1 - BAD_SHARE ? KIND.bad : KIND.usual;
    this.eventName[index] = eventName;
    this.channel[index] = channel;
    this.user[index] = Math.floor(skew ** 3 * (isBare ? BARE_USERS : this.users));
    const unit = isBare ? 60_000 : random() < 0.7 ? 1_000 : 1;
    const isOld = random() < 0.002;
    const exact = isOld ? PARTITION_EDGE_MS + (random() - 0.5) * 7_200_000 : nowMs - age;
    this.timestampMs[index] = Math.floor(exact / unit) * unit;
    this.canonical[index] = index;
    if (!isBare) return;
    const content = `${eventName} ${channel} ${this.user[index]} ${this.timestampMs[index]}`;
    const first = bare.get(content);
    if (first === undefined) bare.set(content, index);
    else this.canonical[index] = first;
  }

  #randomOf(index: number, use: number): () => number {
    return randomFrom(Math.imul(this.seed ^ Math.imul(index + 1, 0x9e3779b1), 0x85ebca6b) + use * 0x51ed270b);
  }
}

function pick({ upTo }: Weighted, at: number): number {
  return Math.max(
    0,
    upTo.findIndex((bound) => at < bound),
  );
}

/** The same string, where escaped with one character written as an escape. */
function quoted(text: string, layout: Layout): string {
  if (layout !== 'escaped') return JSON.stringify(text);
  const escape = `\\u${text.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return `"${escape}${JSON.stringify(text.slice(1)).slice(1)}`;
}

/** Whole seconds in all the ways in which they may be written. */
function timestampText(ms: number, layout: Layout): string {
  if (ms % 1000 !== 0) return layout === 'escaped' ? `${ms}.0` : String(ms);
  const seconds = ms / 1000;
  switch (layout) {
    case 'compact':
      return String(seconds);
    case 'spaced':
      return String(ms);
    case 'escaped':
      return `${seconds}.0`;
    case 'multiline':
      return `${String(seconds).slice(0, 1)}.${String(seconds).slice(1)}e${String(seconds).length - 1}`;
  }
}

/** Tells the event from all others. White space may differ between two copies, spelling and order may not. */
function metadataText(index: number, random: () => number, space: string): string {
  const price = (random() * 500).toFixed(2);
  const members = [
    `"n":${space}${index}`,
    `"path":${space}"/p/${Math.floor(random() * 9_000)}?q=a b"`,
    `"price":${space}${price}`,
    `"ref":${space}{"src":${space}"ad, {curly}",${space}"pos":${space}[1,${space}2.0e0]}`,
  ];
  return `{${members.slice(0, 1 + Math.floor(random() * 4)).join(`,${space}`)}${space}}`;
}
