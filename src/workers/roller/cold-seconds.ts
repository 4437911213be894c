import type { ClickHouseClient } from '@clickhouse/client';
import { BinaryReader, quoteBytes, READ_SETTINGS, readBinary } from '../../shared/clickhouse/binary.js';
import { tableName } from '../../shared/clickhouse/client.js';
import { HashTable } from './hash-table.js';
import { type Identities, keyHash, sliceOf } from './identities.js';
import type { Names } from './names.js';
import { secondOf } from './row-groups.js';
import type { RowGroup } from './rows.js';
import type { Slice } from './slices.js';

/** Keys that lie anywhere: the index is halved, not cut into eight (21 ms for 750 of 35 million, not 25). */
const LOOK_UP_SETTINGS = { ...READ_SETTINGS, merge_tree_coarse_index_granularity: '2' };

/** The seconds of some rows whose identities are not all in memory, and in which of them something may have been counted already. */
export class ColdSeconds {
  readonly #groups: readonly RowGroup[];
  readonly #names: Names;
  readonly #identities: Identities;
  /** By `sliceOf`; whoever takes one out sees to its rows. */
  readonly slices = new Map<number, Slice>();

  constructor(groups: readonly RowGroup[], names: Names, identities: Identities) {
    this.#groups = groups;
    this.#names = names;
    this.#identities = identities;
    for (const { eventName, count, timestamps } of groups) {
      const name = names.numberOf(eventName);
      let last = -1;
      let slice: Slice | undefined;
      for (let i = 0; i < count; i += 1) {
        const second = secondOf(timestamps, i);
        if (second !== last) {
          last = second;
          const id = sliceOf(name, second);
          slice = this.slices.get(id);
          if (slice === undefined && !identities.isHot(id)) {
            slice = { eventName, second, rows: 0 };
            this.slices.set(id, slice);
          }
        }
        if (slice !== undefined) slice.rows += 1;
      }
    }
  }

  /** Rows in them. */
  get rows(): number {
    return [...this.slices.values()].reduce((rows, slice) => rows + slice.rows, 0);
  }

  /** Those with an event that may have been counted, and of which memory does not know it. */
  async doubtful(client: ClickHouseClient, database: string, signal: AbortSignal): Promise<Map<number, Slice>> {
    const doubtful = new Map<number, Slice>();
    const keys = new ColdKeys();
    this.#eachRow((slice, hash) => keys.add(minuteOf(slice), hash));
    await keys.ask(client, database, signal);
    this.#eachRow((slice, hash, id, name, group, i) => {
      if (keys.mayBeCounted(minuteOf(slice), hash) && !this.#identities.recallsLate(group, i, name))
        doubtful.set(id, slice);
    });
    return doubtful;
  }

  #eachRow(onRow: (slice: Slice, hash: number, id: number, name: number, group: RowGroup, i: number) => void): void {
    if (this.slices.size === 0) return;
    for (const group of this.#groups) {
      const name = this.#names.numberOf(group.eventName);
      const nameHash = this.#names.hashOf(group.eventName);
      for (let i = 0; i < group.count; i += 1) {
        const id = sliceOf(name, secondOf(group.timestamps, i));
        const slice = this.slices.get(id);
        if (slice !== undefined) onRow(slice, keyHash(group, i, nameHash), id, name, group, i);
      }
    }
  }
}

function minuteOf({ second }: Slice): number {
  return Math.floor(second / 60);
}

/** Keys of events in seconds that are not hot: each once, and whether it may have been counted. */
class ColdKeys {
  readonly #table = new HashTable();
  readonly #words: number[] = [];

  add(minute: number, hash: number): void {
    if (this.#table.find(hash, minute, 0, 0) >= 0) return;
    this.#table.add(hash, minute, 0, 0, 0);
    this.#words.push(hash, minute);
  }

  /** Whether an event with this key may have been counted. */
  mayBeCounted(minute: number, hash: number): boolean {
    const slot = this.#table.find(hash, minute, 0, 0);
    return slot >= 0 && this.#table.valueAt(slot) === 1;
  }

  /** Asks which of them were counted. */
  async ask(client: ClickHouseClient, database: string, signal: AbortSignal): Promise<void> {
    const count = this.#words.length / 2;
    if (count === 0) return;
    const keys = quoteBytes(new Uint32Array(this.#words));
    const query = `SELECT DISTINCT key FROM ${tableName(database, 'rollup_identities')}
      WHERE key IN (SELECT reinterpretAsUInt64(substring(${keys}, number * 8 + 1, 8)) FROM numbers(${count})) FORMAT RowBinary`;
    const reader = new BinaryReader(await readBinary(client, query, signal, LOOK_UP_SETTINGS));
    while (!reader.done) {
      const hash = reader.uint32();
      const slot = this.#table.find(hash, reader.uint32(), 0, 0);
      if (slot >= 0) this.#table.setValue(slot, 1);
    }
  }
}
