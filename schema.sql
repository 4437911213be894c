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
    received_at DateTime64(6, 'UTC')
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
--     received_at DateTime64(6, 'UTC')
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
