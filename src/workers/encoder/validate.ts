import { isUtf8 } from 'node:buffer';
import { Compile, type Validator } from '../../shared/typebox.js';
import { type ErrorCode, type ErrorDetail, messageOf } from '../../shared/errors.js';
import { type EventInput, eventSchema, MILLISECONDS_FROM } from '../../shared/event-schema.js';
import { DETAILS_MAX, EVENT_LIMITS, QUOTE_MAX_CHARS } from '../../shared/limits.js';
import { retentionEdgeMs } from '../../shared/retention.js';
import { parseUuid } from './event-id.js';
import {
  compact,
  countMembers,
  emptySurvey,
  escapePointer,
  findDuplicate,
  isWhole,
  survey,
  UNENDED,
} from './json-text.js';

/**
 * What a valid event is (api.md): JSON.parse, the compiled TypeBox schema, then what JSON Schema cannot say: lengths in bytes,
 * the clock, members given twice, text that is not Unicode.
 */

export interface ValidationOptions {
  readonly channels: readonly string[];
  readonly futureToleranceS: number;
  /** Absent: any timestamp of the past is taken. */
  readonly retentionDays?: number | undefined;
}

/** An event that may be stored. The object is used again for the next one. */
export interface ValidEvent {
  eventName: string;
  channel: string;
  userId: string;
  timestampMs: number;
  /** Empty where there is none. */
  campaignId: string;
  tags: readonly string[];
  /** The JSON text without white space outside strings; empty where there is none. Bytes of this object's buffer. */
  metadata: Buffer;
  /** The producer's own id, 16 bytes in the order of its text. */
  eventId: Uint8Array | undefined;
}

/** Why an event is refused. */
export class EventFault {
  readonly code: ErrorCode;
  readonly details: readonly ErrorDetail[];
  /** The text is no JSON at all: in a bulk document that refuses the whole of it. */
  readonly notJson: boolean;

  constructor(
    details: readonly ErrorDetail[],
    { code = 'validation_error', notJson = false }: { code?: ErrorCode; notJson?: boolean } = {},
  ) {
    this.code = code;
    this.details = details.slice(0, DETAILS_MAX);
    this.notJson = notJson;
  }

  static at(path: string, message: string, code?: ErrorCode): EventFault {
    return new EventFault([{ path, message }], code === undefined ? {} : { code });
  }

  /** The rule that was broken, with the field's name. */
  get error(): string {
    return this.details.map(({ path, message }) => (path === '' ? message : `${fieldOf(path)} ${message}`)).join('; ');
  }
}

function reasonOf(error: unknown): string {
  return messageOf(error).slice(0, 200).toWellFormed();
}

function fieldOf(path: string): string {
  return path.slice(1).replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~');
}

type Field = keyof EventInput;

const REQUIRED: readonly Field[] = ['event_name', 'channel', 'user_id', 'timestamp'];
const EMPTY = Buffer.alloc(0);
const NO_TAGS: readonly string[] = [];
/** Metadata may be as deep as it is long; nothing else nests. Deeper text is refused before it is parsed. */
const DEPTH_MAX = EVENT_LIMITS.metadataMaxBytes + 2;

export class EventValidator {
  readonly #options: ValidationOptions;
  readonly #whole: Validator;
  readonly #fields: ReadonlyMap<Field, Validator>;
  readonly #rules: Readonly<Record<Field, string>>;
  readonly #survey = emptySurvey();
  readonly #metadata = Buffer.alloc(EVENT_LIMITS.metadataMaxBytes);
  readonly #event: ValidEvent = {
    eventName: '',
    channel: '',
    userId: '',
    timestampMs: 0,
    campaignId: '',
    tags: NO_TAGS,
    metadata: EMPTY,
    eventId: undefined,
  };

  constructor(options: ValidationOptions) {
    this.#options = options;
    const schema = eventSchema(options.channels);
    this.#whole = Compile(schema);
    this.#fields = new Map(Object.entries(schema.properties).map(([name, field]) => [name as Field, Compile(field)]));
    this.#rules = rulesOf(options);
  }

  /**
   * Checks the event whose JSON text is `text` from `start` to `end`. `key` is the `Idempotency-Key`, empty where there is
   * none. The event that is returned is valid until the next call.
   */
  validate(text: Buffer, start: number, end: number, arrivalMs: number, key: string): ValidEvent | EventFault {
    survey(text, start, end, this.#survey);
    if (this.#survey.depth > DEPTH_MAX) return EventFault.at('', `the event is nested deeper than ${DEPTH_MAX} levels`);
    let value: unknown;
    try {
      value = JSON.parse(text.toString('utf8', start, end));
    } catch (error) {
      return new EventFault([{ path: '', message: `not valid JSON: ${reasonOf(error)}` }], { notJson: true });
    }
    if (!isUtf8(text.subarray(start, end))) return EventFault.at('', 'the event is not valid UTF-8');
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return EventFault.at('', 'an event must be a JSON object');
    }
    const hidden = this.#findHidden(text, start, end, value);
    if (hidden !== undefined) return hidden;
    if (!this.#whole.Check(value)) return new EventFault(this.#explain(value));
    const event = value as EventInput;
    const fault =
      this.#checkLengths(event) ??
      this.#checkTimestamp(event, arrivalMs, text, end) ??
      this.#checkKey(event, key) ??
      this.#checkAge(event, arrivalMs);
    return fault ?? this.#accept(text, event, key);
  }

  /** What JSON.parse does not report. */
  #findHidden(text: Buffer, start: number, end: number, value: object): EventFault | undefined {
    const found = this.#survey;
    if (found.loneSurrogateAt !== UNENDED) {
      const escape = text.toString('latin1', found.loneSurrogateAt, found.loneSurrogateAt + 6);
      return EventFault.at('', `the event has a lone surrogate (${escape}), which is not Unicode text`);
    }
    if (found.metadataStart !== UNENDED && found.metadataEnd - found.metadataStart > EVENT_LIMITS.metadataMaxBytes) {
      return EventFault.at('/metadata', this.#rules.metadata);
    }
    const seen = found.innerMembers === 0 ? Object.keys(value).length : countMembers(value);
    if (seen === found.members + found.innerMembers) return undefined;
    return EventFault.at(quote(findDuplicate(text, start, end) ?? ''), 'is given twice');
  }

  /** All that the schema finds wrong, field by field in the schema's order, then the members that it does not know. */
  #explain(value: Readonly<Record<string, unknown>>): ErrorDetail[] {
    const details: ErrorDetail[] = [];
    for (const [name, validator] of this.#fields) {
      if (!Object.hasOwn(value, name)) {
        if (REQUIRED.includes(name)) details.push({ path: `/${name}`, message: 'is required' });
      } else if (!validator.Check(value[name])) {
        details.push({ path: this.#pathOf(name, value[name]), message: this.#rules[name] });
      }
    }
    for (const name of Object.keys(value)) {
      if (details.length >= DETAILS_MAX) break;
      if (!this.#fields.has(name as Field)) {
        details.push({ path: `/${quote(escapePointer(name))}`, message: 'is not a member that an event has' });
      }
    }
    return details;
  }

  #pathOf(name: Field, value: unknown): string {
    if (name !== 'tags' || !Array.isArray(value) || value.length > EVENT_LIMITS.tagsMax) return `/${name}`;
    return `/tags/${value.findIndex((tag) => typeof tag !== 'string' || tag === '' || tooLong(tag, EVENT_LIMITS.tagMaxBytes))}`;
  }

  #checkLengths(event: EventInput): EventFault | undefined {
    if (tooLong(event.event_name, EVENT_LIMITS.eventNameMaxBytes) || event.event_name === '*') {
      return EventFault.at('/event_name', this.#rules.event_name);
    }
    if (tooLong(event.user_id, EVENT_LIMITS.userIdMaxBytes)) return EventFault.at('/user_id', this.#rules.user_id);
    if (tooLong(event.campaign_id ?? '', EVENT_LIMITS.campaignIdMaxBytes)) {
      return EventFault.at('/campaign_id', this.#rules.campaign_id);
    }
    for (const tag of event.tags ?? NO_TAGS) {
      if (tooLong(tag, EVENT_LIMITS.tagMaxBytes))
        return EventFault.at(this.#pathOf('tags', event.tags), this.#rules.tags);
    }
    return undefined;
  }

  #checkTimestamp(event: EventInput, arrivalMs: number, text: Buffer, end: number): EventFault | undefined {
    const inTime = toMs(event.timestamp) <= arrivalMs + this.#options.futureToleranceS * 1000;
    // JSON.parse rounds: 1723475612.00000001 is not whole, though the double that it becomes is.
    return inTime && isWhole(text, this.#survey.timestampStart, end)
      ? undefined
      : EventFault.at('/timestamp', this.#rules.timestamp);
  }

  /** Last: an event that is wrong is wrong, however old. */
  #checkAge({ timestamp }: EventInput, arrivalMs: number): EventFault | undefined {
    const edgeMs = retentionEdgeMs(this.#options.retentionDays, arrivalMs);
    if (toMs(timestamp) >= edgeMs) return undefined;
    const since = new Date(edgeMs).toISOString().slice(0, 10);
    return EventFault.at('/timestamp', `is older than what is kept, which is ${since} on`, 'timestamp_too_old');
  }

  #checkKey(event: EventInput, key: string): EventFault | undefined {
    if (key === '') return undefined;
    if (this.#fields.get('event_id')?.Check(key) !== true)
      return EventFault.at('/event_id', 'in the header Idempotency-Key must be a UUID');
    if (event.event_id === undefined || event.event_id.toLowerCase() === key.toLowerCase()) return undefined;
    return EventFault.at('/event_id', 'differs from the header Idempotency-Key');
  }

  #accept(text: Buffer, input: EventInput, key: string): ValidEvent {
    const event = this.#event;
    event.eventName = input.event_name;
    event.channel = input.channel;
    event.userId = input.user_id;
    event.timestampMs = toMs(input.timestamp);
    event.campaignId = input.campaign_id ?? '';
    event.tags = input.tags ?? NO_TAGS;
    event.metadata = EMPTY;
    if (input.metadata !== undefined && input.metadata !== null) {
      const length = compact(text, this.#survey.metadataStart, this.#survey.metadataEnd, this.#metadata, 0);
      event.metadata = this.#metadata.subarray(0, length);
    }
    const id = input.event_id ?? (key === '' ? undefined : key);
    event.eventId = id === undefined ? undefined : parseUuid(id);
    return event;
  }
}

function toMs(timestamp: number): number {
  return timestamp >= MILLISECONDS_FROM ? timestamp : timestamp * 1000;
}

function tooLong(text: string, maxBytes: number): boolean {
  // A UTF-16 unit is at most three bytes of UTF-8: most strings need not be measured.
  return text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes;
}

/** A name that was sent, short enough for an error. */
function quote(name: string): string {
  return name.length <= QUOTE_MAX_CHARS ? name : `${name.slice(0, QUOTE_MAX_CHARS)}…`.toWellFormed();
}

function rulesOf({ channels, futureToleranceS }: ValidationOptions): Record<Field, string> {
  const { eventNameMaxBytes, userIdMaxBytes, campaignIdMaxBytes, tagsMax, tagMaxBytes, metadataMaxBytes } =
    EVENT_LIMITS;
  return {
    event_name: `must be a string of 1–${eventNameMaxBytes} bytes of UTF-8 other than "*"`,
    channel: `must be one of ${channels.join(', ').slice(0, 200)}`,
    user_id: `must be a string of 1–${userIdMaxBytes} bytes of UTF-8`,
    timestamp: `must be a positive integer, Unix seconds (from 10^11 on: milliseconds), at most ${futureToleranceS} s in the future`,
    campaign_id: `must be null or a string of at most ${campaignIdMaxBytes} bytes of UTF-8`,
    tags: `must be null or at most ${tagsMax} strings of 1–${tagMaxBytes} bytes of UTF-8`,
    metadata: `must be null or an object of at most ${metadataMaxBytes} bytes as sent`,
    event_id: 'must be a UUID',
  };
}
