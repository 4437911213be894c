import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpConnection, NoAnswer } from './http-connection.js';
import type { SentEvent, SentEvents, Version } from './sent-events.js';
import type { Vocabulary } from './tally.js';

/**
 * Producers that send single events and small bulk bodies to all instances, at a pace that leaves time for questions. Some events
 * are up to 30 days late; some are sent again, the same body to another instance a few seconds later, or twice in one body;
 * a few get a second version, with another channel or user under the same identity. Each is sent until it is acknowledged.
 */

export const LOAD_VOCABULARY: Vocabulary = {
  eventNames: ['page_view', 'search', 'purchase', "größe's", 'signup'],
  channels: ['web', 'mobile', 'api', 'email', 'push'],
};

const USERS = 1_500;
const DAY_MS = 86_400_000;
const SINGLE_SENDERS = 2;
const BULK_SENDERS = 2;
const BULK_MAX = 16;
/** Between two requests of one sender, at most. */
const PAUSE_MAX_MS = 300;
const AGAIN_SHARE = 0.15;
const TWICE_IN_BODY_SHARE = 0.02;
/** Of new events, one in so many gets a second version: each makes a day be rebuilt. */
const CHANGED_EVERY = 1_000;
/** An event is sent again, or as another version, after so long. */
const LATER_MS = { min: 400, max: 4_000 } as const;

const PATIENCE_MS = 120_000;

/** Where an instance is at the moment; undefined: nowhere. */
export type UrlOf = (instance: number) => string | undefined;

interface Delivery {
  readonly event: SentEvent;
  readonly version: Version;
  readonly text: string;
  readonly ownId: string | undefined;
  readonly isFirst: boolean;
}

interface Later {
  readonly dueAt: number;
  readonly instance: number;
  readonly make: () => Delivery;
}

export class EventLoad {
  /** Deliveries that were acknowledged, repetitions included. */
  acknowledgements = 0;
  /** Deliveries of what had been acknowledged before. */
  repeated = 0;
  /** Events that got a second version. */
  changed = 0;
  /** Requests that got no answer, and those that were answered 503. */
  unanswered = 0;
  refused = 0;
  /** What was answered that must not be. */
  readonly problems: string[] = [];
  readonly #sent: SentEvents;
  readonly #instances: number;
  readonly #urlOf: UrlOf;
  readonly #random: () => number;
  #later: Later[] = [];
  #isOver = false;

  constructor(sent: SentEvents, instances: number, urlOf: UrlOf, random: () => number) {
    this.#sent = sent;
    this.#instances = instances;
    this.#urlOf = urlOf;
    this.#random = random;
  }

  /** Resolves behind `end`, when all that was begun is acknowledged. */
  async run(): Promise<void> {
    const senders: Promise<void>[] = [];
    for (let instance = 0; instance < this.#instances; instance += 1) {
      for (let i = 0; i < SINGLE_SENDERS; i += 1) senders.push(this.#send(instance, 1));
      for (let i = 0; i < BULK_SENDERS; i += 1) senders.push(this.#send(instance, BULK_MAX));
    }
    await Promise.all(senders);
  }

  end(): void {
    this.#isOver = true;
  }

  async #send(instance: number, bulkMax: number): Promise<void> {
    const connection = new HttpConnection();
    try {
      while (!this.#isOver || this.#later.length > 0) {
        const deliveries = this.#take(instance, bulkMax === 1 ? 1 : 2 + this.#below(bulkMax - 1));
        if (deliveries.length > 0) await this.#deliver(connection, deliveries, instance);
        await sleep(this.#random() * PAUSE_MAX_MS);
      }
    } finally {
      connection.close();
    }
  }

  #take(instance: number, count: number): Delivery[] {
    const now = Date.now();
    const due = this.#later.filter((later) => later.instance === instance && (this.#isOver || later.dueAt <= now));
    const taken = new Set(due.slice(0, count));
    this.#later = this.#later.filter((later) => !taken.has(later));
    const deliveries = [...taken].map(({ make }) => make());
    while (deliveries.length < count && !this.#isOver) {
      const delivery = this.#newEvent();
      deliveries.push(delivery);
      if (count > 1 && this.#random() < TWICE_IN_BODY_SHARE) deliveries.push({ ...delivery, isFirst: false });
    }
    return deliveries;
  }

  #newEvent(): Delivery {
    const { eventNames, channels } = LOAD_VOCABULARY;
    const name = Math.floor(this.#random() ** 1.5 * eventNames.length);
    const unit = this.#random() < 0.7 ? 1_000 : 1;
    const timestampMs = Math.floor((Date.now() - this.#age()) / unit) * unit;
    const event = this.#sent.begin(name, timestampMs, this.#below(channels.length), this.#user());
    const ownId = this.#random() < 0.5 || isChanged(event) ? randomUUID() : undefined;
    return { event, version: event.first, text: textOf(event, event.first, ownId), ownId, isFirst: true };
  }

  #age(): number {
    const kind = this.#random();
    if (kind < 0.8) return this.#random() * 20_000;
    return this.#random() * (kind < 0.9 ? DAY_MS : 30 * DAY_MS);
  }

  /** Sends until there is an answer that says more than to try again. */
  async #deliver(connection: HttpConnection, deliveries: readonly Delivery[], first: number): Promise<void> {
    const texts = deliveries.map(({ text }) => text);
    const path = texts.length === 1 ? '/events' : '/events/bulk';
    const body = texts.length === 1 ? (texts[0] ?? '') : `[${texts.join(',')}]`;
    const from = performance.now();
    for (let instance = first; ; instance = this.#below(this.#instances)) {
      if (performance.now() - from > PATIENCE_MS) throw new Error(`${path} was not acknowledged in ${PATIENCE_MS} ms`);
      const url = this.#urlOf(instance);
      if (url === undefined) {
        await sleep(20);
        continue;
      }
      try {
        const answer = await connection.request(url, path, 'Content-Type: application/json\r\n', body);
        if (answer.status === 202) {
          this.#acknowledge(deliveries, instance, answer.body);
          return;
        }
        if (answer.status !== 503) {
          this.problems.push(`${path} was answered ${answer.status} ${answer.body.slice(0, 300)}`);
          return;
        }
        this.refused += 1;
        await sleep(answer.retryAfterS * 1000);
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
        this.unanswered += 1;
        await sleep(20);
      }
    }
  }

  #acknowledge(deliveries: readonly Delivery[], instance: number, body: string): void {
    const now = Date.now();
    if (deliveries.length > 1 && (JSON.parse(body) as { rejected?: number }).rejected !== 0)
      this.problems.push(`a bulk body of valid events was answered ${body.slice(0, 300)}`);
    this.acknowledgements += deliveries.length;
    for (const delivery of deliveries) {
      const { acknowledgedAt } = delivery.version;
      acknowledgedAt[instance] = Math.min(acknowledgedAt[instance] ?? Infinity, now);
      if (delivery.isFirst) this.#planMore(delivery, instance);
      else this.repeated += 1;
    }
  }

  #planMore({ event, version, text, ownId }: Delivery, instance: number): void {
    const dueAt = Date.now() + LATER_MS.min + this.#random() * (LATER_MS.max - LATER_MS.min);
    if (isChanged(event) && ownId !== undefined) {
      this.#later.push({ dueAt, instance: this.#below(this.#instances), make: () => this.#secondOf(event, ownId) });
    } else if (this.#random() < AGAIN_SHARE) {
      const make = (): Delivery => ({ event, version, text, ownId, isFirst: false });
      this.#later.push({ dueAt, instance: (instance + 1) % this.#instances, make });
    }
  }

  #secondOf(event: SentEvent, ownId: string): Delivery {
    const { channel, user } = event.first;
    const { length } = LOAD_VOCABULARY.channels;
    const isOtherUser = this.#random() < 0.5;
    const otherChannel = (channel + 1 + this.#below(length - 1)) % length;
    const version = this.#sent.beginSecond(
      event,
      isOtherUser ? channel : otherChannel,
      isOtherUser ? (user + 1) % USERS : user,
    );
    this.changed += 1;
    return { event, version, text: textOf(event, version, ownId), ownId, isFirst: false };
  }

  #user(): number {
    return Math.floor(this.#random() ** 2 * USERS);
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }
}

function isChanged({ index }: SentEvent): boolean {
  return index % CHANGED_EVERY === CHANGED_EVERY / 2;
}

function textOf(
  { index, name, timestampMs }: SentEvent,
  { channel, user }: Version,
  ownId: string | undefined,
): string {
  return JSON.stringify({
    event_name: LOAD_VOCABULARY.eventNames[name],
    channel: LOAD_VOCABULARY.channels[channel],
    user_id: `user ${user}`,
    timestamp: timestampMs % 1000 === 0 ? timestampMs / 1000 : timestampMs,
    ...(ownId === undefined ? { metadata: { index } } : { event_id: ownId }),
  });
}
