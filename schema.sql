-- The tables of Penstock, by version. src/shared/clickhouse/migrations.ts applies the sections that are missing, in order,
-- when the service starts or on `penstock migrate up`; `penstock migrate down` runs the newest down section.
--
-- Rules that keep this safe when several instances start at the same time on one ClickHouse:
--   * every statement is idempotent (IF NOT EXISTS, IF EXISTS): the same section may run twice, also at once;
--   * a section that has been released is never edited: a change is a new version.
-- Form: a heading `-- version N: name (up)` or `(down)`, statements that end in a semicolon at the end of a line, comments on
-- lines of their own. `{database}` stands for the configured database, quoted.

-- bookkeeping
-- One row for each step up or down; the newest row of a version says whether it is applied.

CREATE TABLE IF NOT EXISTS {database}.schema_migrations
(
    version    UInt32,
    name       String,
    applied    Bool,
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (version, applied_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- version 1: events (up)
-- An event's identity is the sorting key; of several rows with one identity the one received last counts (docs: contract).
-- Inserts can repeat rows, so whoever reads this table directly reads it with FINAL, or reads events_deduplicated.
--
-- The partition is a function of ts, which is part of the identity, so rows of one identity never lie in two partitions.
-- A month each from 2026 on, a year each before that, and one for all before 2020: every partition that an insert touches is a
-- part to write and sync, and timestamps scattered over 50 years would make 600 of them (docs/decisions/0007-partitions.md).
--
-- fsync_*: an INSERT that has been confirmed is on disk. The log's segments are deleted on the strength of that, and the
-- service refuses to ship into a table without these two settings.
-- non_replicated_deduplication_window: an insert repeated with the same token is skipped; that only saves work.
--
-- The index on received_at finds the rows of a batch (version 3). It must never be used with FINAL: it could hide the version
-- that counts.
--
-- The order of the columns is the order in which the encoder writes a row (src/workers/encoder/encode-event.ts).

CREATE TABLE IF NOT EXISTS {database}.events
(
    event_id    UUID,
    event_name  String,
    channel     LowCardinality(String),
    user_id     String,
    ts          DateTime64(3, 'UTC'),
    campaign_id String,
    tags        Array(String),
    metadata    String,
    received_at DateTime64(6, 'UTC'),
    INDEX received received_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(received_at)
PARTITION BY multiIf(ts < toDateTime64('2020-01-01', 3, 'UTC'), 0, ts < toDateTime64('2026-01-01', 3, 'UTC'), toYear(ts), toYYYYMM(ts))
ORDER BY (event_name, ts, event_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Each event once, for dashboards and ad-hoc queries.
CREATE VIEW IF NOT EXISTS {database}.events_deduplicated AS
SELECT event_id, event_name, channel, user_id, ts, campaign_id, tags, metadata, received_at
FROM {database}.events FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- version 1: events (down)

DROP VIEW IF EXISTS {database}.events_deduplicated;

DROP TABLE IF EXISTS {database}.events SYNC;

-- version 2: segments (up)
-- The ledger: an INSERT into events is announced by an intent and concluded by a completion, so that what may be there in part
-- can be told from what is there, and `penstock audit` can prove that every sequence number is accounted for.
--
-- token names the batch (a hash of its rows), ranges its sequence numbers as (first, rows) within an epoch, hours the hours since
-- 1970 in which its events happened (hours_known = false: too many to list). A refused batch never completes: its rows go on in smaller batches, or one by one to the dead-letter store.

CREATE TABLE IF NOT EXISTS {database}.segments
(
    token       String,
    state       Enum8('intent' = 1, 'completion' = 2, 'refused' = 3),
    epoch       UInt64,
    ranges      Array(Tuple(UInt64, UInt32)),
    rows        UInt32,
    bytes       UInt64,
    hours       Array(UInt32),
    hours_known Bool,
    at          DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY (epoch, token, state)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- version 2: segments (down)

DROP TABLE IF EXISTS {database}.segments SYNC;

-- version 3: rollups (up)
-- Exact totals and unique users by event name, channel and bucket of time, kept up to date by the roller (docs/decisions/0008-rollups.md).
-- Several rows with one key add up: totals by sum, users by union. Whoever reads them groups them.
--
-- entries (minutes only): each event of the cell, second of the minute << 32 | number of its user, for ranges that begin or end
-- within a minute.
-- rollup: level 0 is the roller's own count of its commits; 1 minute, 2 hour, 3 day, 4 five days (bucket: how many since 1970); 5 says in
-- which generation a rebuilt day counts from that commit on.
-- event_name '' is all events (not by minute), channel '' all channels (likewise). generation: which rebuild of its day (0: none) the row belongs to;
-- rollup_exceptions says which one counts. Not partitioned: one INSERT must be one part, so that it is there as a whole or not at all.
--
-- index_granularity_bytes: a day's bitmap is tens of kilobytes; a granule of thousands of them would be read for one.

CREATE TABLE IF NOT EXISTS {database}.rollup
(
    level      UInt8,
    event_name LowCardinality(String),
    channel    LowCardinality(String),
    bucket     UInt32,
    generation UInt64,
    total      SimpleAggregateFunction(sum, Int64),
    commits    SimpleAggregateFunction(max, UInt64),
    users      AggregateFunction(groupBitmap, UInt32),
    entries    SimpleAggregateFunction(groupArrayArray, Array(UInt64))
)
ENGINE = AggregatingMergeTree
ORDER BY (level, event_name, channel, bucket, generation)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    index_granularity = 512, index_granularity_bytes = 16384, min_compress_block_size = 16384, max_compress_block_size = 262144;

-- Users get numbers in order of appearance, each once: hash = sipHash128(user_id).

CREATE TABLE IF NOT EXISTS {database}.rollup_users
(
    hash FixedString(16),
    uid  UInt32
)
ENGINE = MergeTree
ORDER BY hash
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 512;

-- What may have been counted: minute << 32 | 32 bits of the identity's hash. What is not here was never counted.
-- Late events are asked for one by one, all over the table: what is read and decompressed for each is kept small.

CREATE TABLE IF NOT EXISTS {database}.rollup_identities
(
    key UInt64 CODEC(Delta(8), LZ4)
)
ENGINE = MergeTree
ORDER BY key
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 512,
    min_compress_block_size = 4096, max_compress_block_size = 8192;

-- Days of an event name ('': of all of them) that rollup must not answer for, until done. request makes each of them its own.
-- wanted = 0: held, because raw rows of that day are about to change; it is not rebuilt, but closed by who holds it, in the INSERT that
-- asks for the rebuild under a request of its own (src/shared/clickhouse/forget.ts).

CREATE TABLE IF NOT EXISTS {database}.rollup_exceptions
(
    event_name String,
    day        UInt32,
    request    UInt64,
    reason     SimpleAggregateFunction(any, String),
    done       SimpleAggregateFunction(max, UInt8),
    generation SimpleAggregateFunction(max, UInt64),
    wanted     SimpleAggregateFunction(max, UInt8) DEFAULT 1
)
ENGINE = AggregatingMergeTree
ORDER BY (event_name, day, request)
SETTINGS non_replicated_deduplication_window = 0, fsync_after_insert = 1, fsync_part_directory = 1;

-- Batches of the ledger whose rows are in the rollup.

CREATE TABLE IF NOT EXISTS {database}.rolled_segments
(
    token String,
    at    DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = MergeTree
ORDER BY token
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- When the rows of a batch were received, first and last: by that the roller finds them.

ALTER TABLE {database}.segments
    ADD COLUMN IF NOT EXISTS received_from DateTime64(6, 'UTC'),
    ADD COLUMN IF NOT EXISTS received_to DateTime64(6, 'UTC');

-- Users who are to be forgotten, without their ids: hash = sipHash128(user_id), crc32 = CRC32(user_id). Their events are refused, never
-- rolled, and deleted where they come in by another way. A row for each time that this was asked; request: what it holds meanwhile
-- in rollup_exceptions.

CREATE TABLE IF NOT EXISTS {database}.forgotten_users
(
    hash    FixedString(16),
    crc32   UInt32,
    request UInt64,
    at      DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (hash, request)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- version 3: rollups (down)

ALTER TABLE {database}.segments DROP COLUMN IF EXISTS received_from, DROP COLUMN IF EXISTS received_to;

DROP TABLE IF EXISTS {database}.rolled_segments SYNC;

DROP TABLE IF EXISTS {database}.rollup_exceptions SYNC;

DROP TABLE IF EXISTS {database}.rollup_identities SYNC;

DROP TABLE IF EXISTS {database}.rollup_users SYNC;

DROP TABLE IF EXISTS {database}.rollup SYNC;

DROP TABLE IF EXISTS {database}.forgotten_users SYNC;

-- version 4: merges (up)
-- The ledger gets one row at a time. By itself all of it would be merged behind each of them.

ALTER TABLE {database}.segments MODIFY SETTING min_parts_to_merge_at_once = 10;

-- version 4: merges (down)

ALTER TABLE {database}.segments RESET SETTING min_parts_to_merge_at_once;

-- version 5: merges of rollup (up)
-- Each commit is a part, most of it sets of users that every merge makes anew: fewer merges, of more parts each
-- (docs/decisions/0008-rollups.md has what that saves).

ALTER TABLE {database}.rollup MODIFY SETTING merge_selector_base = 12;

-- version 5: merges of rollup (down)

ALTER TABLE {database}.rollup RESET SETTING merge_selector_base;

-- version 6: merges of rollup_identities (up)
-- As rollup: each step is a part.

ALTER TABLE {database}.rollup_identities MODIFY SETTING merge_selector_base = 12;

-- version 6: merges of rollup_identities (down)

ALTER TABLE {database}.rollup_identities RESET SETTING merge_selector_base;

-- The cluster form, to be created by hand in place of version 1 on a cluster with Keeper (the macros {shard} and {replica}
-- are the server's). Shards are chosen by user, so that users are counted on one shard each; a producer that repeats an
-- event_id must then repeat its user_id too, or the two versions lie on two shards and both count.
--
-- CREATE TABLE penstock.events_local ON CLUSTER my_cluster
-- (
--     event_id    UUID,
--     event_name  String,
--     channel     LowCardinality(String),
--     user_id     String,
--     ts          DateTime64(3, 'UTC'),
--     campaign_id String,
--     tags        Array(String),
--     metadata    String,
--     received_at DateTime64(6, 'UTC'),
--     INDEX received received_at TYPE minmax GRANULARITY 1
-- )
-- ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/penstock/events_local', '{replica}', received_at)
-- PARTITION BY multiIf(ts < toDateTime64('2020-01-01', 3, 'UTC'), 0, ts < toDateTime64('2026-01-01', 3, 'UTC'), toYear(ts), toYYYYMM(ts))
-- ORDER BY (event_name, ts, event_id)
-- SETTINGS replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
--
-- CREATE TABLE penstock.events ON CLUSTER my_cluster AS penstock.events_local
-- ENGINE = Distributed(my_cluster, penstock, events_local, cityHash64(user_id));
--
-- The user that Penstock connects with then needs distributed_foreground_insert = 1 (an INSERT is confirmed by the shards,
-- not by a queue) and insert_quorum = 'auto' where a shard has more than one replica.
