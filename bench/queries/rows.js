/**
 * The rows of the data set, as SQL over numbers(): row n is the same wherever and however often it is made, so that the same
 * events go straight into ClickHouse or through the service, and a duplicate is its original again.
 *
 * Events come in the order in which they are received: over 30 days that end with the last midnight (UTC), more by day than by
 * night, most of them within 3 seconds, one in a hundred late by anything up to the whole time. Names, channels and users are
 * skewed. Three in a thousand are received a second time: half of those within the minute, half a chunk later.
 */

export const DAY_MS = 86_400_000;
export const DAYS = 30;
/** Rows of one INSERT; as many as a segment may have. */
export const CHUNK_ROWS = 500_000;
export const LATE_SHARE = 0.01;
export const DUPLICATE_SHARE = 0.003;
/** Users grow steeply more frequent towards number 0; the rarest of a million still come eight times in 20 M rows. */
export const USER_SKEW = 2.5;

/** Of a hundred events. */
export const NAMES = {
  page_view: 30,
  product_view: 22,
  search: 14,
  add_to_cart: 10,
  push_opened: 7,
  email_opened: 6,
  checkout_started: 4,
  purchase: 3,
  signup: 2,
  refund: 2,
};
export const CHANNELS = { web: 45, mobile: 30, api: 12, email: 8, push: 5 };

/** How strongly the day's wave rises and falls, below 1 so that time never runs backwards. */
const WAVE = 0.6;
const DUPLICATE_PER_MILLE = DUPLICATE_SHARE * 1000;
const LATE_PER_CENT = LATE_SHARE * 100;

/** One hundred entries, each value as often as its share says. */
export function lookup(shares) {
  return Object.entries(shares).flatMap(([value, share]) => Array.from({ length: share }, () => value));
}

/** @typedef {{ rows: number, users: number, startMs: number, endMs: number, madeMs: number }} Shape */

/** @returns {Shape} of a data set that is made now */
export function shapeOf(rows, nowMs = Date.now()) {
  const endMs = Math.floor(nowMs / DAY_MS) * DAY_MS;
  // As many events a user as 20 M rows have, and a million users at most.
  const users = Math.min(1_000_000, Math.max(100, Math.floor(rows / 20)));
  return { rows, users, startMs: endMs - DAYS * DAY_MS, endMs, madeMs: nowMs };
}

/** Duplicates among the rows below `rows`: what a data set must have beyond them. */
export function duplicatesQuery(rows) {
  return `SELECT countIf(cityHash64(number, 7) % 1000 < ${DUPLICATE_PER_MILLE}) AS duplicates FROM numbers(${rows}) FORMAT JSONEachRow`;
}

/**
 * The rows that are received in one chunk: events `from` to `to`, duplicates of them, and duplicates of the chunk before.
 * Columns: those of the table events, and `ms`, `attributes` for whoever writes JSON.
 * @param {Shape} shape
 */
export function chunkQuery(shape, from, to) {
  const soon = 'cityHash64(number, 7) % 1000 < ' + DUPLICATE_PER_MILLE + ' AND cityHash64(number, 8) % 2 = 0';
  const later = 'cityHash64(number, 7) % 1000 < ' + DUPLICATE_PER_MILLE + ' AND cityHash64(number, 8) % 2 = 1';
  const before = Math.max(0, from - CHUNK_ROWS);
  const end = Math.min(to, shape.rows);
  const parts = [
    rowsQuery(shape, from, end, '1', '0'),
    rowsQuery(shape, from, end, soon, '1000 + cityHash64(number, 9) % 59000'),
    rowsQuery(shape, before, Math.min(from, shape.rows), later, String(laterMs(shape))),
  ];
  return parts.join('\nUNION ALL\n');
}

/** How long a chunk takes to be received. */
function laterMs({ rows, startMs, endMs }) {
  return Math.ceil(((endMs - startMs) * CHUNK_ROWS) / Math.max(rows, CHUNK_ROWS));
}

function rowsQuery({ rows, users, startMs, endMs, madeMs }, from, to, condition, againMs) {
  const spanMs = endMs - startMs;
  const even = `((number + 0.5) / ${rows} * ${spanMs})`;
  const received = `toInt64(${even} - ${(WAVE * DAY_MS) / (2 * Math.PI)} * sin(${even} / ${DAY_MS} * 2 * pi()))`;
  const share = (salt) => `(cityHash64(number, ${salt}) / 18446744073709551616.)`;
  const pick = (shares, salt) =>
    `arrayElement([${lookup(shares)
      .map((value) => `'${value}'`)
      .join(',')}], cityHash64(number, ${salt}) % 100 + 1)`;
  return `SELECT
  reinterpretAsUUID(sipHash128(number, 'queries')) AS event_id,
  ${pick(NAMES, 1)} AS event_name,
  ${pick(CHANNELS, 2)} AS channel,
  concat('user_', toString(least(${users - 1}, toUInt64(${users} * pow(${share(3)}, ${USER_SKEW}))))) AS user_id,
  ${startMs} + if(cityHash64(number, 4) % 100 < ${LATE_PER_CENT},
    toInt64(${received} * ${share(5)}), greatest(0, ${received} - cityHash64(number, 6) % 3000)) AS ms,
  fromUnixTimestamp64Milli(ms, 'UTC') AS ts,
  if(cityHash64(number, 10) % 10 < 3, '', concat('cmp_', toString(cityHash64(number, 11) % 200))) AS campaign_id,
  if(cityHash64(number, 12) % 2 = 0, [], ['electronics', 'flash_sale']) AS tags,
  if(cityHash64(number, 13) % 2 = 0, map(),
    map('product_id', concat('prod-', toString(cityHash64(number, 14) % 50000)), 'currency', 'USD')) AS attributes,
  if(empty(attributes), '', toJSONString(attributes)) AS metadata,
  fromUnixTimestamp64Micro(least(${startMs} + ${received} + ${againMs}, ${madeMs}) * 1000 + number % 1000, 'UTC') AS received_at
FROM numbers(${from}, ${Math.max(0, to - from)}) WHERE ${condition}`;
}
