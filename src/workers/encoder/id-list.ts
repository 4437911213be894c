import { UUID_CHARS, writeUuidText } from './event-id.js';

const QUOTE = 0x22;
const COMMA = 0x2c;
const NULL = Buffer.from('null,');
/** One id with its quotes and comma. */
const ID_BYTES = UUID_CHARS + 3;

/** The `event_ids` of an answer, as the bytes of their JSON: one buffer for all answers, as long as the longest was. */
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

  /** `head`, what stands between the list's brackets, and `tail`: valid until `clear`, which comes before anything is added. */
  between(head: string, tail: string): Buffer {
    const length = Math.max(0, this.#length - 1);
    const [headBytes, tailBytes] = [Buffer.byteLength(head), Buffer.byteLength(tail)];
    this.#grow(headBytes + tailBytes);
    const bytes = this.#bytes;
    bytes.copyWithin(headBytes, 0, length);
    bytes.write(head, 0);
    bytes.write(tail, headBytes + length);
    return bytes.subarray(0, headBytes + length + tailBytes);
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
