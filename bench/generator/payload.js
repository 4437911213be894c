/**
 * What is sent. Every event is another one, so that exact totals can be checked: its number stands in its body, in digits
 * of fixed width that are overwritten in place. Preparing a request is then a few stores, not the building of a string,
 * and the generator stays cheaper than what it measures.
 *
 * Event names carry the tag of a run: its totals are its own, also on a service that has other events.
 */

const NUMBER_DIGITS = 10;
const USER_DIGITS = 7;
const SECONDS_DIGITS = 10;
/** Stand-ins, found again in the text as the places to write to. */
const NUMBER = 'N'.repeat(NUMBER_DIGITS);
const USER = 'U'.repeat(USER_DIGITS);
const SECONDS = 'T'.repeat(SECONDS_DIGITS);

export const PAYLOADS = ['seed', 'small', 'large', 'mixed'];
const NAMES = ['product_view', 'add_to_cart', 'purchase', 'page_view', 'push_opened'];
const CHANNELS = ['web', 'mobile', 'api', 'email', 'push'];

/** The event that README shows. */
function seedEvent(tag, name = NAMES[0], channel = CHANNELS[0]) {
  return `{"event_name":"${name}_${tag}","channel":"${channel}","campaign_id":"cmp_987","user_id":"user_${USER}","timestamp":${SECONDS},"tags":["electronics","flash_sale"],"metadata":{"product_id":"prod-${NUMBER}","price":129.99,"currency":"USD","referrer":"google"}}`;
}

/** Required members, and an id of the producer's own. */
function smallEvent(tag, name = NAMES[0], channel = CHANNELS[0]) {
  const id = `00000000-0000-4000-8000-00${NUMBER}`;
  return `{"event_name":"${name}_${tag}","channel":"${channel}","user_id":"user_${USER}","timestamp":${SECONDS},"event_id":"${id}"}`;
}

/** 4 KiB of metadata, escapes and nesting included, and 16 tags. */
function largeEvent(tag, name = NAMES[0], channel = CHANNELS[0]) {
  const tags = Array.from({ length: 16 }, (_, index) => `"segment-${index}-of-the-autumn-campaign"`);
  const items = Array.from(
    { length: 32 },
    (_, index) =>
      `{"sku":"SKU-${1000 + index}","title":"Trail shoe \\"Föhn\\" ${index}","quantity":${(index % 3) + 1},"price":${(index * 7.25 + 4).toFixed(2)},"options":["size-4${index % 9}","colour-blue"]}`,
  );
  return `{"event_name":"${name}_${tag}","channel":"${channel}","campaign_id":"cmp_987","user_id":"user_${USER}","timestamp":${SECONDS},"tags":[${tags.join(',')}],"metadata":{"order":"${NUMBER}","items":[${items.join(',')}]}}`;
}

/** One in five small, one in twenty large, the rest like the seed, over all names and channels. */
function mixedEvents(tag) {
  return Array.from({ length: 20 }, (_, index) => {
    const make = index % 20 === 19 ? largeEvent : index % 5 === 2 ? smallEvent : seedEvent;
    return make(tag, NAMES[Math.floor(index / 4) % NAMES.length], CHANNELS[index % CHANNELS.length]);
  });
}

/** @returns {string[]} texts with stand-ins, used in turn */
export function eventTexts(payload, tag) {
  switch (payload) {
    case 'seed':
      return [seedEvent(tag)];
    case 'small':
      return [smallEvent(tag)];
    case 'large':
      return [largeEvent(tag)];
    case 'mixed':
      return mixedEvents(tag);
    default:
      throw new Error(`--payload must be one of ${PAYLOADS.join(', ')}, not ${payload}`);
  }
}

/** The event names that a run with this payload sends. */
export function eventNames(payload, tag) {
  return payload === 'mixed' ? NAMES.map((name) => `${name}_${tag}`) : [`${NAMES[0]}_${tag}`];
}

/** The user of an event, by its number. */
export function userOf(number, users) {
  return number % users;
}

/** A complete request, head and body, for one connection; `write` makes it the next one. */
export class RequestBytes {
  /** @type {Buffer} */
  bytes;
  #numberAt;
  #userAt;
  #secondsAt;
  #users;
  #seconds = 0;

  /**
   * @param {{ host: string, path: string, headers: string, users: number }} target
   * @param {string[]} texts as `eventTexts` gives them
   * @param {number} batch events in the body; more than one is NDJSON
   */
  constructor({ host, path, headers, users }, texts, batch) {
    const lines = Array.from({ length: batch }, (_, index) => texts[index % texts.length]);
    const body = Buffer.from(lines.join('\n'));
    const head = Buffer.from(
      `POST ${path} HTTP/1.1\r\nHost: ${host}\r\n${headers}Content-Length: ${body.length}\r\n\r\n`,
      'latin1',
    );
    this.bytes = Buffer.concat([head, body]);
    this.#users = users;
    this.#numberAt = placesOf(this.bytes, NUMBER);
    this.#userAt = placesOf(this.bytes, USER);
    this.#secondsAt = placesOf(this.bytes, SECONDS);
  }

  /** Numbers the events from `first` on, as of now. */
  write(first) {
    const { bytes } = this;
    const count = this.#numberAt.length;
    for (let i = 0; i < count; i += 1) {
      writeDigits(bytes, this.#numberAt[i], NUMBER_DIGITS, first + i);
      writeDigits(bytes, this.#userAt[i], USER_DIGITS, userOf(first + i, this.#users));
    }
    const seconds = Math.floor(Date.now() / 1000);
    if (seconds === this.#seconds) return;
    this.#seconds = seconds;
    for (let i = 0; i < count; i += 1) writeDigits(bytes, this.#secondsAt[i], SECONDS_DIGITS, seconds);
  }
}

function placesOf(bytes, standIn) {
  const places = [];
  for (let at = bytes.indexOf(standIn); at !== -1; at = bytes.indexOf(standIn, at + standIn.length)) places.push(at);
  return Int32Array.from(places);
}

function writeDigits(bytes, at, digits, value) {
  let rest = value;
  for (let i = at + digits - 1; i >= at; i -= 1) {
    const next = Math.floor(rest / 10);
    bytes[i] = 48 + rest - next * 10;
    rest = next;
  }
}
