import { UUID_CHARS, writeUuidText } from './event-id.js';

const QUOTE = 0x22;
const COMMA = 0x2c;
const NULL = Buffer.from('null,');
/** One id with its quotes and comma. */
const ID_BYTES = UUID_CHARS + 3;

/** The `event_ids` of an answer, as the bytes of their JSON. */
export class IdList {
  #bytes = Buffer.allocUnsafe(64 * ID_BYTES);
  #length = 0;

  add(uuid: Uint8Array): void {
    const at = this.#grow(ID_BYTES);
    const bytes = this.#bytes;
    bytes[at] = QUOTE;
    writeUuidText(uuid, bytes, at + 1);
    bytes[at + 1 + UUID_CHARS] = QUOTE;
    bytes[at + 2 + UUID_CHARS] = COMMA;
  }

  /** Several, as `add` writes them. */
  addTexts(texts: Uint8Array): void {
    const at = this.#grow(texts.length);
    this.#bytes.set(texts, at);
  }

  /** Of an event that was refused. */
  addNull(): void {
    const at = this.#grow(NULL.length);
    this.#bytes.set(NULL, at);
  }

  clear(): void {
    this.#length = 0;
  }

  /** What stands between the brackets. */
  get json(): Buffer {
    return this.#bytes.subarray(0, Math.max(0, this.#length - 1));
  }

  /** Where so many more bytes go. */
  #grow(bytes: number): number {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(2 * this.#length);
      this.#bytes.copy(larger);
      this.#bytes = larger;
    }
    return at;
  }
}
