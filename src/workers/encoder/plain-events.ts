import { readFileSync } from 'node:fs';
import { MILLISECONDS_FROM } from '../../shared/event-schema.js';
import { EVENT_LIMITS, ROW_MAX_BYTES } from '../../shared/limits.js';
import { type Bytes, copyBytes, Sink } from '../../shared/rowbinary.js';

/**
 * The one-pass encoder, which is a WebAssembly module (scan/): text is copied into its memory, rows and ids are copied out of it.
 * A body goes through it in chunks. The module takes plain valid events only and stops at any other, which is then encoded the
 * readable way.
 */

/** What the module exports (scan/index.ts); the numbers are addresses and sizes in its memory (scan/layout.ts). */
interface Scan {
  readonly memory: { readonly buffer: ArrayBuffer };
  setTime(arrivalUs: number, earliestMs: number, latestMs: number): void;
  encodeOne(start: number, end: number, row: number): number;
  encodeMany(
    start: number,
    end: number,
    rows: number,
    most: number,
    lines: number,
    isWhole: number,
    withIds: number,
  ): number;
  readonly isStuck: Place;
  readonly CHUNK: Place;
  readonly CHUNK_BYTES: Place;
  readonly SINGLE: Place;
  readonly SINGLE_BYTES: Place;
  readonly ROWS: Place;
  readonly ROW_ROOM: Place;
  readonly EVENTS_MAX: Place;
  readonly ID_TEXTS: Place;
  readonly ID_TEXT_BYTES: Place;
  readonly MARKS: Place;
  readonly MARK_BYTES: Place;
  readonly ID: Place;
  readonly CHANNELS: Place;
  readonly CHANNELS_BYTES: Place;
  readonly TAGS_ROOM: Place;
  readonly METADATA_ROOM: Place;
}

interface Place {
  readonly value: number;
}

interface WasmApi {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

const { Module, Instance } = (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly;

const compiled = new Module(readFileSync(new URL('./scan.wasm', import.meta.url)));

/** u32 words of a mark, in this order: where the user's id begins and ends, where the event ends, where its row ends. */
const MARK = { userStart: 0, userEnd: 1, behind: 2, row: 3 } as const;
const UUID_BYTES = 16;
/**
 * Fewer bytes than this at the end of a chunk may be the beginning of an event: they are looked at again with what follows.
 * A longer event that a chunk's end cuts goes the readable way.
 */
const CUT_MAX_BYTES = 32 * 1024;

const NO_TEXT: Bytes = new Sink(Buffer.alloc(0));

/** The events of one body, up to its end. */
export class EventText {
  static #last = 0;
  /** Tells it from every other, which may have stood in the same memory. */
  readonly number = (EventText.#last += 1);
  readonly text: Buffer;
  /** One stands on each line; otherwise commas stand between them. */
  readonly lines: boolean;
  readonly withIds: boolean;

  constructor(text: Buffer, { lines, withIds }: { lines: boolean; withIds: boolean }) {
    this.text = text;
    this.lines = lines;
    this.withIds = withIds;
  }
}

export class PlainEvents {
  /** The id of the event that `encodeOne` took, in the order of its text. */
  readonly id: Uint8Array;
  /** `encodeMany` has ended in front of an event that is not taken. */
  isStuck = false;
  readonly #scan: Scan;
  readonly #memory: Sink;
  readonly #marks: Uint32Array;
  readonly #single: number;
  readonly #singleMaxBytes: number;
  readonly #chunk: number;
  readonly #chunkBytes: number;
  readonly #rows: number;
  readonly #idTexts: number;
  readonly #idTextBytes: number;
  readonly #eventsMax: number;
  /** Where the text that a single event stood in last is read. */
  #text: Bytes = NO_TEXT;
  /** The number of the text of which a part is in the chunk, from where to where. A body of many MiB is not held by that. */
  #loaded = 0;
  #loadedFrom = 0;
  #loadedTo = 0;
  /** Where it is in the module's memory. */
  #loadedAt = 0;
  /** Where the rows are that were encoded last, and how many. */
  #rowsAt = 0;
  #count = 0;

  constructor(channels: readonly string[]) {
    const scan = new Instance(compiled, {
      layout: { ...EVENT_LIMITS, millisecondsFrom: MILLISECONDS_FROM },
    }).exports as Scan;
    this.#scan = scan;
    const { buffer } = scan.memory;
    this.#memory = new Sink(Buffer.from(buffer));
    this.id = new Uint8Array(buffer, scan.ID.value, UUID_BYTES);
    this.#marks = new Uint32Array(buffer, scan.MARKS.value, scan.EVENTS_MAX.value * WORDS);
    this.#single = scan.SINGLE.value;
    this.#singleMaxBytes = scan.SINGLE_BYTES.value;
    this.#chunk = scan.CHUNK.value;
    this.#chunkBytes = scan.CHUNK_BYTES.value;
    this.#rows = scan.ROWS.value;
    this.#idTexts = scan.ID_TEXTS.value;
    this.#idTextBytes = scan.ID_TEXT_BYTES.value;
    this.#eventsMax = scan.EVENTS_MAX.value;
    assertRoom(scan);
    this.#tellChannels(channels);
  }

  /** Those that do not fit go the readable way, with their events. */
  #tellChannels(channels: readonly string[]): void {
    const { view, buffer } = this.#memory;
    let at = this.#scan.CHANNELS.value;
    const end = at + this.#scan.CHANNELS_BYTES.value;
    for (const channel of channels) {
      const length = Buffer.byteLength(channel);
      if (length === 0 || at + 4 + length + 4 > end) continue;
      view.setUint32(at, length, true);
      at += 4;
      at += buffer.write(channel, at);
    }
    view.setUint32(at, 0, true);
  }

  /** Tells, for the calls that follow, when the events arrived and between which timestamps they are taken. */
  setTime(arrivalUs: number, earliestMs: number, latestMs: number): void {
    this.#scan.setTime(arrivalUs, earliestMs, latestMs);
  }

  /** Encodes the event between `start` and `end`; the length of its row, which will go to `sink`, or 0 where it is not taken. */
  encodeOne(text: Buffer, start: number, end: number, sink: Sink): number {
    const length = end - start;
    if (length > this.#singleMaxBytes) return 0;
    // Events come many in one buffer: a ring. The last body is held until the next event.
    if (this.#text.buffer !== text) this.#text = new Sink(text);
    const at = this.#single + misalignment(text, start);
    this.#memory.at = at;
    copyBytes(this.#memory, this.#text, start, end);
    this.#rowsAt = this.#rows + misalignment(sink.buffer, sink.at);
    return this.#scan.encodeOne(at, at + length, this.#rowsAt);
  }

  /**
   * Encodes the events that stand behind one another from `start` on, where the first begins: at most `most` of them, and those
   * only that are in memory at once. Returns how many; none where the first one is not taken. Their rows will go to `sink`.
   */
  encodeMany(from: EventText, start: number, most: number, sink: Sink): number {
    this.#count = 0;
    this.#rowsAt = this.#rows + misalignment(sink.buffer, sink.at);
    if (this.#loaded !== from.number || start < this.#loadedFrom || start >= this.#loadedTo) this.#load(from, start);
    this.#scanFrom(from, start, most);
    if (this.#count === 0 && this.#isCut(from, start)) {
      this.#load(from, start);
      this.#scanFrom(from, start, most);
    }
    this.isStuck =
      this.#count < most && this.#scan.isStuck.value !== 0 && (this.#count === 0 || !this.#isCut(from, this.behind));
    return this.#count;
  }

  /** Of the events that `encodeMany` took, the first only that many, and the next one is not taken. */
  stopAt(count: number): void {
    this.#count = count;
    this.isStuck = true;
  }

  /** Where the user's id of one of them stands in `memory`. */
  userStart(event: number): number {
    return this.#mark(event, MARK.userStart);
  }

  userEnd(event: number): number {
    return this.#mark(event, MARK.userEnd);
  }

  get memory(): Uint8Array {
    return this.#memory.buffer;
  }

  /** The position behind the last of them. */
  get behind(): number {
    return this.#mark(this.#count - 1, MARK.behind) - this.#loadedAt + this.#loadedFrom;
  }

  /** Their rows. */
  get rows(): Uint8Array {
    return this.#memory.buffer.subarray(this.#rowsAt, this.#mark(this.#count - 1, MARK.row));
  }

  /** Their ids in quotes, each with a comma behind it, where the text is `withIds`. */
  get idTexts(): Uint8Array {
    return this.#memory.buffer.subarray(this.#idTexts, this.#idTexts + this.#count * this.#idTextBytes);
  }

  /** Copies the row of `length` bytes that `encodeOne` left. */
  moveRow(sink: Sink, length: number): void {
    copyBytes(sink, this.#memory, this.#rowsAt, this.#rowsAt + length);
  }

  #mark(event: number, word: number): number {
    return this.#marks[event * WORDS + word] ?? 0;
  }

  #load(from: EventText, start: number): void {
    const end = Math.min(from.text.length, start + this.#chunkBytes);
    this.#loadedAt = this.#chunk + misalignment(from.text, start);
    this.#memory.buffer.set(from.text.subarray(start, end), this.#loadedAt);
    this.#loaded = from.number;
    this.#loadedFrom = start;
    this.#loadedTo = end;
  }

  #scanFrom(from: EventText, start: number, most: number): void {
    const offset = this.#loadedAt - this.#loadedFrom;
    this.#count = this.#scan.encodeMany(
      start + offset,
      this.#loadedTo + offset,
      this.#rowsAt,
      Math.min(most, this.#eventsMax),
      from.lines ? 1 : 0,
      this.#loadedTo === from.text.length ? 1 : 0,
      from.withIds ? 1 : 0,
    );
  }

  /** Whether the event that begins at `start` may go on behind the chunk, and would not if the chunk began with it. */
  #isCut(from: EventText, start: number): boolean {
    return this.#loadedTo < from.text.length && this.#loadedTo - start < CUT_MAX_BYTES;
  }
}

/**
 * How far a place is from where a word begins. V8 copies shared memory in words only where both sides are as far from it, and
 * otherwise byte by byte, at an eighth of the speed: so what is copied has the same place within a word on both sides.
 */
function misalignment(buffer: Buffer, at: number): number {
  return (buffer.byteOffset + at) & 7;
}

const WORDS = Object.keys(MARK).length;

function assertRoom(scan: Scan): void {
  const fits =
    ROW_MAX_BYTES <= scan.ROW_ROOM.value &&
    EVENT_LIMITS.tagsMax <= scan.TAGS_ROOM.value &&
    EVENT_LIMITS.metadataMaxBytes <= scan.METADATA_ROOM.value &&
    WORDS * 4 === scan.MARK_BYTES.value &&
    CUT_MAX_BYTES < scan.CHUNK_BYTES.value;
  if (!fits) throw new Error('the one-pass encoder (scan/layout.ts) has less room than the limits ask for');
}
