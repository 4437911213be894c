/**
 * The columns of `events` that an INSERT names, in the order in which a row's bytes stand in the log. With schema.sql and
 * encode-event.ts (and scan/row.ts) this is ROW_FORMAT_VERSION 1: a change here is a new version, because the log may hold
 * rows of the old.
 */
export const EVENT_COLUMNS = [
  'event_id',
  'event_name',
  'channel',
  'user_id',
  'ts',
  'campaign_id',
  'tags',
  'metadata',
  'received_at',
] as const;
