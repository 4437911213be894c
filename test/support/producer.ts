import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { type EventSource, type Layout, LAYOUTS } from './event-source.js';
import { type HttpAnswer, HttpConnection, NoAnswer } from './http-connection.js';
import { randomFrom } from './metrics-model.js';
import type { Tally } from './tally.js';

/**
 * A producer as the contract wants it: it sends until it has an answer. What has none (the service was killed), or one that
 * asks for patience, is sent again in another layout of the same content; and a share of the events is sent twice on
 * purpose: soon or much later, through another connection, endpoint or layout, or within one body.
 */

export interface ProducerOptions {
  /** Share of the events that are sent twice. */
  readonly duplicates?: number;
  readonly singleConnections?: number;
  readonly bulkConnections?: number;
  /** Events in a bulk body, but for one in fifty. */
  readonly bulkMax?: number;
}

/** Indices [from, to) of the source. */
export type Range = readonly [from: number, to: number];

/** Copies that wait: the more of them, the likelier is the next event one of them. */
const COPIES_WAITING = 1_000;
/** Before another attempt at a service that does not answer. */
const RECONNECT_MS = 50;
/** One bulk body in so many has as many events as the contract allows: more than a megabyte. */
const LARGEST_EVERY = 50;
const LARGEST_EVENTS = 10_000;

class Work {
  #next: number;
  readonly #end: number;
  readonly copies: number[] = [];
  readonly #random: () => number;

  constructor([from, to]: Range, random: () => number) {
    this.#next = from;
    this.#end = to;
    this.#random = random;
  }

  get left(): number {
    return this.#end - this.#next + this.copies.length;
  }

  /** The next event, or a copy of an earlier one; `isCopy` says which. */
  take(): { readonly index: number; readonly isCopy: boolean } | undefined {
    const waiting = this.copies.length;
    if (waiting > 0 && (this.#next >= this.#end || this.#random() < waiting / COPIES_WAITING)) {
      const at = Math.floor(this.#random() * waiting);
      const index = this.copies[at] ?? 0;
      this.copies[at] = this.copies[waiting - 1] ?? 0;
      this.copies.pop();
      return { index, isCopy: true };
    }
    if (this.#next >= this.#end) return undefined;
    this.#next += 1;
    return { index: this.#next - 1, isCopy: false };
  }
}

export class Producer {
  readonly source: EventSource;
  readonly tally: Tally;
  /** Answers by status. */
  readonly answers = new Map<number, number>();
  /** Requests that got no answer. */
  unanswered = 0;
  /** Events sent a second time on purpose. */
  copies = 0;
  readonly #options: Required<ProducerOptions>;
  readonly #random: () => number;
  #url: string | undefined;
  readonly #targetWaiters = new Set<() => void>();
  #milestones: { readonly at: number; readonly reached: () => void }[] = [];

  constructor(tally: Tally, options: ProducerOptions = {}) {
    this.tally = tally;
    this.source = tally.source;
    this.#options = { duplicates: 0.05, singleConnections: 64, bulkConnections: 4, bulkMax: 1_000, ...options };
    this.#random = randomFrom(this.source.seed ^ 0x5bd1e995);
  }

  get url(): string | undefined {
    return this.#url;
  }

  /** Where to send from now on; undefined: nowhere, wait. */
  set url(url: string | undefined) {
    this.#url = url;
    const waiters = [...this.#targetWaiters];
    this.#targetWaiters.clear();
    for (const waiter of waiters) waiter();
  }

  /** Resolves when so many events were acknowledged, copies included. */
  acknowledged(events: number): Promise<void> {
    return new Promise((resolve) => {
      this.#milestones.push({ at: events, reached: resolve });
      this.#checkMilestones();
    });
  }

  /** Sends `singles` through /events and `bulk` through /events/bulk at the same time, until all of it is answered. */
  async run({ singles = [0, 0], bulk = [0, 0] }: { readonly singles?: Range; readonly bulk?: Range }): Promise<void> {
    const one = new Work(singles, this.#random);
    const many = new Work(bulk, this.#random);
    const { singleConnections, bulkConnections } = this.#options;
    while (one.left + many.left > 0) {
      const senders = [];
      for (let i = 0; one.left > 0 && i < singleConnections; i += 1) senders.push(this.#sendSingles(one, many));
      for (let i = 0; many.left > 0 && i < bulkConnections; i += 1) senders.push(this.#sendBulks(many, one));
      await Promise.all(senders);
    }
  }

  async #sendSingles(work: Work, other: Work): Promise<void> {
    const connection = new HttpConnection();
    for (let next = work.take(); next !== undefined; next = work.take()) {
      const { index, isCopy } = next;
      if (!isCopy && this.#random() < this.#options.duplicates) this.#plan(index, this.#random() < 0.7 ? work : other);
      this.tally.sent(index);
      const { body } = await this.#deliver(connection, () => this.#single(index));
      if (this.source.isBad(index) && body.includes('"code":"validation_error"')) this.tally.refuse(index, body);
      else if (body.startsWith('{"status":"accepted"'))
        this.#acknowledged(index, (JSON.parse(body) as { event_id?: unknown }).event_id);
      else this.tally.refuse(index, body);
      this.#checkMilestones();
    }
    connection.close();
  }

  async #sendBulks(work: Work, other: Work): Promise<void> {
    const connection = new HttpConnection();
    for (;;) {
      const events = this.#takeBulk(work, other);
      if (events.length === 0) break;
      for (const index of events) this.tally.sent(index);
      const { body } = await this.#deliver(connection, () => this.#bulk(events));
      this.#settleBulk(events, body);
      this.#checkMilestones();
    }
    connection.close();
  }

  #takeBulk(work: Work, other: Work): number[] {
    const isLargest = this.#random() < 1 / LARGEST_EVERY;
    const size = isLargest ? LARGEST_EVENTS : 1 + Math.floor(this.#random() ** 2 * this.#options.bulkMax);
    const events: number[] = [];
    while (events.length < size) {
      const next = work.take();
      if (next === undefined) break;
      events.push(next.index);
      if (next.isCopy || this.#random() >= this.#options.duplicates) continue;
      const where = this.#random();
      if (where < 0.1 && events.length < size) {
        events.push(next.index);
        this.copies += 1;
      } else {
        this.#plan(next.index, where < 0.95 ? work : other);
      }
    }
    return events;
  }

  #plan(index: number, work: Work): void {
    work.copies.push(index);
    this.copies += 1;
  }

  #settleBulk(events: readonly number[], body: string): void {
    const answer = JSON.parse(body) as {
      accepted?: number;
      rejected?: number;
      event_ids?: (string | null)[];
      error?: string;
    };
    const ids = answer.event_ids ?? [];
    const refused = events.filter((index) => this.source.isBad(index)).length;
    if (ids.length !== events.length || answer.accepted !== events.length - refused || answer.rejected !== refused) {
      this.tally.problem(
        `a bulk body of ${events.length} events, ${refused} of them invalid, was answered ${body.slice(0, 300)}`,
      );
    }
    for (const [at, index] of events.entries()) {
      if (typeof ids[at] === 'string') this.#acknowledged(index, ids[at]);
      else this.tally.refuse(index, answer.error ?? 'null in event_ids');
    }
  }

  #single(index: number): Message {
    const id = this.source.ownId(index);
    const where = this.#random();
    const withId = id === undefined || where < 0.7;
    const key =
      id === undefined || (withId && where < 0.5) ? '' : `Idempotency-Key: ${where < 0.6 ? id.toUpperCase() : id}\r\n`;
    return {
      path: '/events',
      headers: `Content-Type: application/json\r\n${key}`,
      body: this.source.text(index, this.#layout(), withId),
    };
  }

  #bulk(events: readonly number[]): Message {
    const form = this.#random();
    const lines = form < 0.6;
    const texts = events.map((index) => this.source.text(index, lines ? this.#layout('multiline') : this.#layout()));
    const type = `Content-Type: ${lines && this.#random() < 0.5 ? 'application/x-ndjson' : 'application/json'}\r\n`;
    // One line alone is a document, and no bulk document, where its content type does not say otherwise.
    const asLines = lines && (events.length > 1 || type.includes('ndjson'));
    const body = asLines
      ? `${texts.join('\n')}\n`
      : form < 0.8
        ? `[${texts.join(',\n')}]`
        : `{"events": [${texts.join(',')}] }`;
    if (this.#random() > 0.1) return { path: '/events/bulk', headers: type, body };
    return { path: '/events/bulk', headers: `${type}Content-Encoding: gzip\r\n`, body: gzipSync(body, { level: 1 }) };
  }

  #layout(but?: Layout): Layout {
    if (this.#random() < 0.7) return 'compact';
    const layout = LAYOUTS[Math.floor(this.#random() * LAYOUTS.length)] ?? 'compact';
    return layout === but ? 'compact' : layout;
  }

  /** Sends until there is an answer that says more than to try again. */
  async #deliver(connection: HttpConnection, make: () => Message): Promise<HttpAnswer> {
    for (;;) {
      const url = this.#url;
      if (url === undefined) {
        await this.#targetChange();
        continue;
      }
      const { path, headers, body } = make();
      let answer: HttpAnswer;
      try {
        answer = await connection.request(url, path, headers, body);
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
        this.unanswered += 1;
        if (this.#url === url) await this.#targetChange(RECONNECT_MS);
        continue;
      }
      const { status, retryAfterS } = answer;
      this.answers.set(status, (this.answers.get(status) ?? 0) + 1);
      if (status < 500 && status !== 429 && status !== 408) return answer;
      if ((status === 503 || status === 429) && retryAfterS === 0)
        this.tally.problem(`a ${status} without Retry-After: ${answer.body}`);
      if (this.#url === url) await this.#targetChange(retryAfterS * 1000 || RECONNECT_MS);
    }
  }

  /** Waits until the service is another, or for so long. */
  async #targetChange(ms?: number): Promise<void> {
    const over = new AbortController();
    let waiter: (() => void) | undefined;
    const changed = new Promise<void>((resolve) => {
      waiter = resolve;
      this.#targetWaiters.add(resolve);
    });
    const late = ms === undefined ? [] : [sleep(ms, undefined, { signal: over.signal }).catch(() => undefined)];
    await Promise.race([changed, ...late]);
    over.abort();
    if (waiter !== undefined) this.#targetWaiters.delete(waiter);
  }

  #acknowledged(index: number, id: unknown): void {
    this.tally.acknowledge(index, id);
  }

  #checkMilestones(): void {
    if (this.#milestones.length === 0) return;
    const { acknowledgements } = this.tally;
    for (const { at, reached } of this.#milestones) if (acknowledgements >= at) reached();
    this.#milestones = this.#milestones.filter(({ at }) => acknowledgements < at);
  }
}

interface Message {
  readonly path: string;
  readonly headers: string;
  readonly body: string | Buffer;
}
