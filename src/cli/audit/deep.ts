import type { ClickHouseClient } from '@clickhouse/client';
import { clickHouseErrorCode, tableName } from '../../shared/clickhouse/client.js';
import { retentionEdgeMs } from '../../shared/retention.js';
import { sipHash128 } from '../../shared/sip-hash.js';
import { readSegment } from '../../workers/flusher/batch.js';
import { keptDirectory } from '../../workers/flusher/disposal.js';
import type { StoredEvent } from '../../workers/flusher/rows.js';
import { readRow, walkRows } from '../../workers/flusher/rows.js';
import { scanSteadily, type SegmentFile, segmentFiles } from '../wal/segment-files.js';
import type { FactsOptions } from './sources.js';

/**
 * `penstock audit --deep`: every event of the segments that ClickHouse has confirmed and that are still at hand (kept ones, and
 * those in the log whose completion is in the ledger), looked up by its identity. This is the proof that does not trust the
 * ledger. What was deleted on purpose is not missing: what is older than is kept, and what is of forgotten users.
 */

export interface DeepReport {
  readonly segments: number;
  readonly events: number;
  readonly missing: number;
  /** The first of them. */
  readonly examples: readonly { readonly id: string; readonly event: Identity }[];
}

type Identity = Pick<StoredEvent['event'], 'event_id' | 'event_name' | 'timestamp'>;

interface Row {
  readonly id: string;
  readonly identity: Identity;
  readonly userId: string;
}

const ROWS_PER_QUERY = 5_000;
/** Names of 128 bytes, each escaped as four. */
const LIST_MAX_BYTES = ROWS_PER_QUERY * 700;
const EXAMPLES_MAX = 20;
/** ClickHouse's error code. */
const UNKNOWN_TABLE = '60';

export async function lookUpEvents(options: FactsOptions, retentionDays: number | undefined): Promise<DeepReport> {
  const { walDirectory, store, client, database, onProgress } = options;
  const confirmed = await confirmedSegments(options);
  const files = [...segmentFiles(keptDirectory(walDirectory)), ...confirmed];
  const missing: Row[] = [];
  let segments = 0;
  let events = 0;
  for (const { file } of files) {
    const rows = rowsOf(file);
    if (rows === undefined) continue;
    segments += 1;
    for (let at = 0; at < rows.length; at += ROWS_PER_QUERY) {
      missing.push(...(await missingOf(client, database, rows.slice(at, at + ROWS_PER_QUERY))));
      events += Math.min(ROWS_PER_QUERY, rows.length - at);
      onProgress(`${segments} of ${files.length} segments, ${events} events looked up`);
    }
  }
  // After the look-ups: a letter that was written meanwhile explains a row that was not there.
  const dead = new Set(store.purged());
  for (const file of store.files()) for (const { id } of store.read(file)) dead.add(id);
  const forgotten = missing.length === 0 ? new Set<string>() : await forgottenUsers(client, database);
  const edgeMs = retentionEdgeMs(retentionDays, Date.now());
  const lost = missing.filter(
    ({ id, identity, userId }) => identity.timestamp >= edgeMs && !dead.has(id) && !forgotten.has(hashOf(userId)),
  );
  return {
    segments,
    events,
    missing: lost.length,
    examples: lost.slice(0, EXAMPLES_MAX).map(({ id, identity }) => ({ id, event: identity })),
  };
}

/** Segments of the log that ClickHouse has confirmed already, and whose files have not gone yet. */
async function confirmedSegments({ walDirectory, client, database }: FactsOptions): Promise<SegmentFile[]> {
  const byToken = new Map<string, SegmentFile>();
  for (const segment of segmentFiles(walDirectory)) {
    const token = tokenOf(segment.file);
    if (token !== undefined) byToken.set(token, segment);
  }
  const confirmed: SegmentFile[] = [];
  const tokens = [...byToken.keys()];
  for (let at = 0; at < tokens.length; at += 500) {
    const result = await client.query({
      query: `
        SELECT DISTINCT token FROM ${tableName(database, 'segments')}
        WHERE state = 'completion' AND token IN {tokens:Array(String)}`,
      query_params: { tokens: tokens.slice(at, at + 500) },
      format: 'JSONEachRow',
    });
    for (const { token } of await result.json<{ token: string }>()) {
      const segment = byToken.get(token);
      if (segment !== undefined) confirmed.push(segment);
    }
  }
  return confirmed;
}

function tokenOf(file: string): string | undefined {
  try {
    return readSegment(file).batch?.token;
  } catch {
    // Gone since the directory was listed.
    return undefined;
  }
}

/** The identities in a segment's intact frames; undefined where it is gone or none. */
function rowsOf(file: string): Row[] | undefined {
  const frames: Omit<Row, 'id'>[][] = [];
  const scan = scanSteadily(
    file,
    (payload) => {
      const rows: Omit<Row, 'id'>[] = [];
      let from = 0;
      walkRows(payload, (end) => {
        const { event_id, event_name, timestamp, user_id: userId } = readRow(payload, from).event;
        rows.push({ identity: { event_id, event_name, timestamp }, userId });
        from = end;
      });
      frames.push(rows);
    },
    () => frames.splice(0),
  );
  if (scan?.kind !== 'segment') return undefined;
  return scan.frames.flatMap(({ epoch, firstSequence }, at) =>
    (frames[at] ?? []).map((found, row) => ({ id: `${epoch}:${firstSequence + BigInt(row)}`, ...found })),
  );
}

/** The list of `penstock forget`; empty where the schema is older than it. */
async function forgottenUsers(client: ClickHouseClient, database: string): Promise<ReadonlySet<string>> {
  try {
    const result = await client.query({
      query: `SELECT DISTINCT hex(hash) AS hash FROM ${tableName(database, 'forgotten_users')}`,
      format: 'JSONEachRow',
    });
    return new Set((await result.json<{ hash: string }>()).map(({ hash }) => hash));
  } catch (error) {
    if (clickHouseErrorCode(error) === UNKNOWN_TABLE) return new Set();
    throw error;
  }
}

function hashOf(userId: string): string {
  return sipHash128(Buffer.from(userId)).toString('hex').toUpperCase();
}

async function missingOf(client: ClickHouseClient, database: string, rows: readonly Row[]): Promise<Row[]> {
  const keys = new Map(rows.map((row) => [keyOf(row.identity), row]));
  // Literals rather than parameters, which would stand in the URL. As literals of the columns' own types they use the sorting key.
  const list = rows.map(({ identity }) => literal(identity)).join(',');
  const result = await client.query({
    query: `
      SELECT DISTINCT toString(event_id) AS event_id, event_name, toUnixTimestamp64Milli(ts) AS timestamp
      FROM ${tableName(database, 'events')} WHERE (event_name, ts, event_id) IN (${list})`,
    clickhouse_settings: {
      max_query_size: String(LIST_MAX_BYTES),
      max_ast_elements: String(ROWS_PER_QUERY * 10),
      max_expanded_ast_elements: String(ROWS_PER_QUERY * 10),
      output_format_json_quote_64bit_integers: 0,
    },
    format: 'JSONEachRow',
  });
  for (const found of await result.json<Identity>()) keys.delete(keyOf(found));
  return [...keys.values()];
}

function keyOf({ event_id, event_name, timestamp }: Identity): string {
  return `${event_id} ${timestamp} ${event_name}`;
}

function literal({ event_id, event_name, timestamp }: Identity): string {
  const ts = new Date(timestamp).toISOString().replace('T', ' ').replace('Z', '');
  return `('${escape(event_name)}','${ts}','${event_id}')`;
}

function escape(text: string): string {
  const plain = text.replaceAll(/['\\]/g, String.raw`\$&`);
  return plain.replaceAll(/[\0-\x1f]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
