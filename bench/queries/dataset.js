/**
 * The data set: made once, kept with --data-dir. Beside the service's own tables it has the database `bench`:
 * `truth`, each event once (a DISTINCT over the raw rows that shares nothing with the service but the table events), and `plain`, the
 * same rows as one would lay them out by hand.
 *
 * Merges of `events` stand still until both have been made, so that the duplicates are still there to be counted.
 */
import { existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '../harness/options.js';
import { progressBar, say } from '../harness/progress.js';
import { CLICKHOUSE, startPenstock } from '../harness/service.js';
import { askClickHouse, waitUntilSettled } from '../harness/verify.js';
import { BulkSender } from './bulk-sender.js';
import { CHUNK_ROWS, chunkQuery, DAY_MS, duplicatesQuery, shapeOf } from './rows.js';

const FORMAT = 1;
/** In all tables, with what merges take for a moment. */
const BYTES_A_ROW = 200;
const POSTGRES_BYTES_A_ROW = 400;
const EVENTS_COLUMNS = 'event_id, event_name, channel, user_id, ts, campaign_id, tags, metadata, received_at';

/**
 * What a data directory holds, as its file dataset.json says.
 * @typedef {import('./rows.js').Shape & { format: number, via: string, duplicates: number, distinct: number, changed?: boolean }} Dataset
 * changed: there are live events in it by now, which the copies lack
 */

function fileOf(dataDir) {
  return join(dataDir, 'dataset.json');
}

/** What an earlier run left in a directory. @returns {Dataset | undefined} */
function readKept(dataDir) {
  const file = fileOf(dataDir);
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}

/** The data set of a directory for --beside, where it can be asked as it is. @returns {Dataset} */
export function requireKept(dataDir) {
  const kept = readKept(dataDir);
  if (kept === undefined) throw new UsageError(`--beside ${dataDir}: no data set there; make one with --data-dir`);
  if (kept.format !== FORMAT) throw new UsageError(`--beside ${dataDir}: its data set is of format ${kept.format}`);
  if (kept.changed) throw new UsageError(`--beside ${dataDir}: live events were added to it; take one without`);
  return kept;
}

/** The data set of the directory, or a new one. @returns {Promise<Dataset>} */
export async function prepareDataset(dataDir, options) {
  const kept = readKept(dataDir);
  if (kept !== undefined) {
    const asAsked = kept.format === FORMAT && kept.rows === options.rows && kept.via === options.via;
    if (asAsked) return kept;
    throw new UsageError(
      `${dataDir} has a data set of ${kept.rows} rows via ${kept.via} (format ${kept.format}): take another --data-dir`,
    );
  }
  if (existsSync(join(dataDir, 'clickhouse')))
    throw new UsageError(`${dataDir} has data, but no finished data set: remove it, or take another --data-dir`);
  requireSpace(dataDir, options.rows * (BYTES_A_ROW + (options.postgres ? POSTGRES_BYTES_A_ROW : 0)));
  const shape = shapeOf(options.rows);
  const make = options.via === 'service' ? throughService : intoClickHouse;
  const dataset = { format: FORMAT, via: options.via, ...shape, ...(await make(dataDir, shape, options)) };
  writeFileSync(fileOf(dataDir), `${JSON.stringify(dataset, null, 1)}\n`);
  return dataset;
}

/** Live events stay in a directory that is kept: the copies are then made again at the next start. */
export function noteChange(dataDir, dataset) {
  writeFileSync(fileOf(dataDir), `${JSON.stringify({ ...dataset, changed: true }, null, 1)}\n`);
}

/** `truth` and `plain` as the events are. @returns {Promise<number>} how many different events there are */
export async function refreshCopies(clickhouse, dataset) {
  if (!dataset.changed) return dataset.distinct;
  const distinct = await makeTruth(clickhouse);
  await makePlain(clickhouse);
  return distinct;
}

function requireSpace(dataDir, bytes) {
  mkdirSync(dataDir, { recursive: true });
  const { bavail, bsize } = statfsSync(dataDir);
  const gib = (value) => (value / 2 ** 30).toFixed(1);
  if (bavail * bsize < bytes)
    throw new UsageError(
      `${dataDir} has ${gib(bavail * bsize)} GiB free, and this takes up to ${gib(bytes)}: fewer --rows, or another --data-root`,
    );
}

/** Into the embedded ClickHouse while no service runs on it: what it finds at its first start is rolled up then. */
async function intoClickHouse(dataDir, shape) {
  const [{ startEmbedded }, { createClickHouse }, { migrateUp }, { createLogger }] = await Promise.all([
    import('../../dist/src/shared/clickhouse/embedded/launcher.js'),
    import('../../dist/src/shared/clickhouse/client.js'),
    import('../../dist/src/shared/clickhouse/migrations.js'),
    import('../../dist/src/shared/log.js'),
  ]);
  const log = createLogger({ level: 'error', thread: 'main', destination: process.stderr });
  const server = await startEmbedded({ dataDir, ...CLICKHOUSE, log });
  const end = () => process.kill(server.pid, 'SIGKILL');
  process.prependOnceListener('exit', end);
  try {
    const clickhouse = { url: server.url, ...CLICKHOUSE };
    const client = createClickHouse({ ...clickhouse, requestTimeoutMs: 30_000, maxOpenConnections: 1 });
    try {
      await migrateUp(client, clickhouse.database, log);
    } finally {
      await client.close();
    }
    return await fill(clickhouse, shape, async (from, to) => {
      // Each duplicate as a row of its own, also where its original is in the same block.
      await askClickHouse(
        clickhouse,
        `INSERT INTO penstock.events (${EVENTS_COLUMNS}) SELECT ${EVENTS_COLUMNS} FROM (${chunkQuery(shape, from, to)})
         SETTINGS optimize_on_insert = 0, max_insert_block_size = ${2 * CHUNK_ROWS}, min_insert_block_size_rows = ${2 * CHUNK_ROWS}`,
      );
    });
  } finally {
    process.removeListener('exit', end);
    await server.stop();
  }
}

/** The same rows in the same order as a producer sends them: POST /events/bulk. They are received now, then. */
async function throughService(dataDir, shape, { settings }) {
  const service = await startPenstock({ settings, kept: dataDir });
  const sender = new BulkSender(service.url);
  try {
    return await fill(service.clickhouse, shape, async (from, to) => {
      const rows = await askClickHouse(
        service.clickhouse,
        `SELECT event_id, event_name, channel, user_id, ms AS timestamp, nullIf(campaign_id, '') AS campaign_id, tags, attributes AS metadata
         FROM (${chunkQuery(shape, from, to)}) ORDER BY received_at
         FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0`,
        (text) => text,
      );
      await sender.send(rows.split('\n').filter(Boolean));
      if (to > shape.rows) await waitUntilSettled(service);
    });
  } finally {
    sender.close();
    await service.stop();
  }
}

async function fill(clickhouse, shape, insertChunk) {
  await askClickHouse(clickhouse, 'SYSTEM STOP MERGES penstock.events');
  const bar = progressBar('making rows', shape.rows);
  bar(0);
  // One chunk beyond the last: the duplicates that come a chunk later.
  for (let from = 0; from < shape.rows + CHUNK_ROWS; from += CHUNK_ROWS) {
    await insertChunk(from, from + CHUNK_ROWS);
    bar(Math.min(shape.rows, from + CHUNK_ROWS));
  }
  const distinct = await makeTruth(clickhouse);
  const [{ rows }] = await askClickHouse(
    clickhouse,
    'SELECT toUInt32(count()) AS rows FROM penstock.events FORMAT JSONEachRow',
  );
  const [{ duplicates }] = await askClickHouse(clickhouse, duplicatesQuery(shape.rows));
  if (distinct !== shape.rows || rows - distinct !== Number(duplicates))
    throw new Error(
      `the data set is not what it should be: ${rows} rows, ${distinct} of them different; wanted ${shape.rows} and ${duplicates} duplicates`,
    );
  await makePlain(clickhouse);
  await askClickHouse(clickhouse, 'SYSTEM START MERGES penstock.events');
  say(`${distinct.toLocaleString('en')} different events, ${duplicates} of them twice`);
  return { duplicates: rows - distinct, distinct };
}

/** Each event once, its latest version, a day at a time, which bounds the memory. @returns {Promise<number>} how many */
export async function makeTruth(clickhouse) {
  await byDay(
    clickhouse,
    'DISTINCT over the raw rows',
    [
      'CREATE DATABASE IF NOT EXISTS bench',
      'DROP TABLE IF EXISTS bench.truth SYNC',
      `CREATE TABLE bench.truth (event_name LowCardinality(String), ts DateTime64(3, 'UTC'), channel LowCardinality(String), user_id String)
     ENGINE = MergeTree ORDER BY (event_name, ts)`,
    ],
    (day) =>
      `INSERT INTO bench.truth SELECT event_name, ts, argMax(channel, received_at), argMax(user_id, received_at)
     FROM penstock.events WHERE ${day} GROUP BY event_name, ts, event_id`,
  );
  const [{ rows }] = await askClickHouse(
    clickhouse,
    'SELECT toUInt32(count()) AS rows FROM bench.truth FORMAT JSONEachRow',
  );
  return rows;
}

/** The plain design, filled with the raw rows. */
export async function makePlain(clickhouse) {
  await byDay(
    clickhouse,
    'rows for the plain design',
    [
      'DROP TABLE IF EXISTS bench.plain SYNC',
      `CREATE TABLE bench.plain
     (
         event_name  LowCardinality(String),
         ts          DateTime64(3, 'UTC'),
         user_id     String,
         channel     LowCardinality(String),
         campaign_id String,
         tags        Array(String),
         metadata    String
     )
     ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(ts) ORDER BY (event_name, ts, user_id, channel, campaign_id)`,
    ],
    (day) =>
      `INSERT INTO bench.plain SELECT event_name, ts, user_id, channel, campaign_id, tags, metadata
     FROM penstock.events WHERE ${day} SETTINGS optimize_on_insert = 0`,
  );
}

async function byDay(clickhouse, what, prepare, insert) {
  for (const sql of prepare) await askClickHouse(clickhouse, sql);
  const days = await daysOf(clickhouse);
  const bar = progressBar(what, days.length, 'days');
  bar(0);
  for (const [done, day] of days.entries()) {
    await askClickHouse(clickhouse, insert(day));
    bar(done + 1);
  }
}

/** A condition on ts for each day that has events. */
export async function daysOf(clickhouse) {
  const [{ first, last }] = await askClickHouse(
    clickhouse,
    'SELECT toUnixTimestamp64Milli(min(ts)) AS first, toUnixTimestamp64Milli(max(ts)) AS last FROM penstock.events FORMAT JSONEachRow',
  );
  const days = [];
  for (let ms = Math.floor(Number(first) / DAY_MS) * DAY_MS; ms <= Number(last); ms += DAY_MS)
    days.push(`ts >= fromUnixTimestamp64Milli(${ms}, 'UTC') AND ts < fromUnixTimestamp64Milli(${ms + DAY_MS}, 'UTC')`);
  return days;
}

const QUIET_MS = 2_000;
const CALM_MAX_MS = 300_000;

/** Merges of what was just written would be in every figure; how long they took, in seconds. */
export async function waitForMerges(clickhouse) {
  const from = performance.now();
  let quietSince = from;
  while (performance.now() - quietSince < QUIET_MS) {
    const [{ merges }] = await askClickHouse(
      clickhouse,
      'SELECT toUInt32(count()) AS merges FROM system.merges FORMAT JSONEachRow',
    );
    if (merges > 0) quietSince = performance.now();
    if (performance.now() - from > CALM_MAX_MS) {
      say('merges do not come to an end: measuring beside them');
      break;
    }
    await sleep(200);
  }
  return Math.round((performance.now() - from) / 1000);
}

const STALL_MS = 300_000;

/** Until the rollups have every event; what it took, and for how many: a directory that was kept may have them already. */
export async function waitForRollups(service, distinct) {
  const { clickhouse } = service;
  const startMs = performance.now();
  const before = service.snapshot();
  const bar = progressBar('rolling up', distinct, 'events');
  let first;
  let rolled = -1;
  let movedMs = startMs;
  for (;;) {
    const [now] = await askClickHouse(
      clickhouse,
      `SELECT toInt64(sum(total)) AS rolled, (SELECT count() FROM penstock.rolled_segments WHERE token = 'backfill') AS noted
       FROM penstock.rollup WHERE level = 2 AND event_name = '' AND channel = ''
       FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0`,
    );
    first ??= now.rolled;
    bar(now.rolled);
    if (now.noted > 0 && now.rolled >= distinct) break;
    if (now.rolled !== rolled) movedMs = performance.now();
    rolled = now.rolled;
    if (performance.now() - movedMs > STALL_MS)
      throw new Error(`rolling up stands still at ${rolled} of ${distinct} events`);
    await sleep(250);
  }
  const after = service.snapshot();
  const seconds = (performance.now() - startMs) / 1000;
  const cores = (of) => Number(((after[of] - before[of]) / 1000 / seconds).toFixed(2));
  return {
    events: distinct - first,
    seconds: Number(seconds.toFixed(1)),
    serviceCores: cores('cpuMs'),
    clickhouseCores: cores('childrenCpuMs'),
  };
}

/** Bytes, rows and parts of each table. */
export async function tableSizes(clickhouse) {
  return askClickHouse(
    clickhouse,
    `SELECT database || '.' || table AS name, round(sum(bytes_on_disk) / 1048576, 1) AS MiB, toUInt32(sum(rows)) AS rows, toUInt32(count()) AS parts
     FROM system.parts WHERE active AND database IN ('penstock', 'bench') GROUP BY name ORDER BY name FORMAT JSONEachRow`,
  );
}
