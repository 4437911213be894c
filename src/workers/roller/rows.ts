import { tableName } from '../../shared/clickhouse/client.js';

/** The rows that the roller reads, in columns (row-reader.ts). */

/** Rows of one event name and channel. */
export interface RowGroup {
  readonly eventName: string;
  readonly channel: string;
  readonly count: number;
  /** Unix ms. */
  readonly timestamps: Float64Array;
  /** Four words each. */
  readonly eventIds: Uint32Array;
  /** sipHash128 of the user id, four words each. */
  readonly users: Uint32Array;
}

/** SQL that is true of rows of users who are not forgotten. Theirs may come once more, until they are deleted again. */
export function isRemembered(database: string): string {
  return `sipHash128(user_id) NOT IN (SELECT hash FROM ${tableName(database, 'forgotten_users')})`;
}
