import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';

/** Results in RowBinary, and values in the text of a statement: what the roller and the cells thread ask ClickHouse with. */

/** Reading must not take the processors from inserts, and must not be cut short without a word. */
export const READ_SETTINGS: ClickHouseSettings = {
  max_threads: 1,
  use_query_cache: 0,
  use_query_condition_cache: 0,
  max_query_size: String(256 * 1024 * 1024),
  read_overflow_mode: 'throw',
  result_overflow_mode: 'throw',
  timeout_overflow_mode: 'throw',
  group_by_overflow_mode: 'throw',
  wait_end_of_query: 1,
};

/** The whole result of a query in RowBinary. */
export async function readBinary(
  client: ClickHouseClient,
  query: string,
  signal: AbortSignal,
  settings: ClickHouseSettings = READ_SETTINGS,
): Promise<Buffer> {
  const { stream } = await client.exec({ query, clickhouse_settings: settings, abort_signal: signal });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** A place in RowBinary bytes. */
export class BinaryReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.#at] ?? 0;
      this.#at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  string(): string {
    const length = this.varint();
    this.#at += length;
    return this.#bytes.toString('utf8', this.#at - length, this.#at);
  }

  uint8(): number {
    this.#at += 1;
    return this.#bytes[this.#at - 1] ?? 0;
  }

  uint64(): bigint {
    this.#at += 8;
    return this.#bytes.readBigUInt64LE(this.#at - 8);
  }

  uint32(): number {
    this.#at += 4;
    return this.#bytes.readUInt32LE(this.#at - 4);
  }

  int64(): number {
    this.#at += 8;
    return this.#bytes.readInt32LE(this.#at - 4) * 2 ** 32 + this.#bytes.readUInt32LE(this.#at - 8);
  }

  /** `count` bytes of the whole, not a copy. */
  bytes(count: number): Uint8Array {
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  /** `count` words, in memory of their own. */
  words(count: number): Uint32Array {
    const words = new Uint32Array(count);
    new Uint8Array(words.buffer).set(this.#bytes.subarray(this.#at, this.#at + count * 4));
    this.#at += count * 4;
    return words;
  }
}

/** A string literal. */
export function quoteText(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** SQL of a string of these bytes. */
export function quoteBytes({ buffer, byteOffset, byteLength }: Uint8Array | Uint32Array): string {
  return `base64Decode('${Buffer.from(buffer, byteOffset, byteLength).toString('base64')}')`;
}
