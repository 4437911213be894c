import { QUOTE_MAX_CHARS } from '../../shared/limits.js';
import { skipSpace, skipString, skipValue, stringAt, UNENDED } from './json-text.js';

/**
 * Takes a bulk body apart into the texts of its events, one at a time, without parsing the whole: `{"events":[…]}`, a bare
 * `[…]`, or NDJSON. What stands between the events is checked here, each event by who parses it; a document is JSON exactly
 * when both are content.
 */

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const NEWLINE = 0x0a;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const EXPECTED = 'expected {"events":[…]}, an array of events, or NDJSON';

type BulkForm = 'object' | 'array' | 'ndjson';

export type BulkStep =
  /** The next event's text is from `start` to `end`; in a document `end` is UNENDED until it is found. */
  | 'event'
  | 'end'
  /** `fault` says what is wrong with the document. */
  | 'fault'
  /** What looked like a document was the first line of NDJSON: all events so far are void, reading begins anew. */
  | 'restart';

export class BulkText {
  start = 0;
  end = 0;
  fault = '';
  readonly #text: Buffer;
  /** The end of the body. */
  readonly limit: number;
  readonly #begin: number;
  #form: BulkForm;
  #at: number;
  #first = true;
  /** Undefined before it was tried. */
  #opened: boolean | undefined;

  constructor(text: Buffer, start: number, end: number, ndjson: boolean) {
    this.#text = text;
    this.limit = end;
    this.#begin = skipSpace(text, start, end);
    this.#at = this.#begin;
    this.#form = ndjson ? 'ndjson' : this.#detect();
  }

  /** False where a fault in one event's text refuses the whole document. */
  get linesStandAlone(): boolean {
    return this.#form === 'ndjson';
  }

  /** Moves to the next event. */
  next(): BulkStep {
    if (this.#form === 'ndjson') return this.#nextLine();
    return this.#isOpen() ? this.#nextElement() : 'fault';
  }

  /** Where the event begins that `next` would move to, if any does: UNENDED where that is another step. */
  get ahead(): number {
    if (this.#form !== 'ndjson') return this.#isOpen() ? this.#elementAhead() : UNENDED;
    this.#at = skipSpace(this.#text, this.#at, this.limit);
    return this.#at < this.limit ? this.#at : UNENDED;
  }

  /** Tells that the events from `ahead` on up to there are whole ones and done with; lines end behind it. */
  passTo(behind: number): void {
    this.#first = false;
    this.#at = skipSpace(this.#text, behind, this.limit);
  }

  #isOpen(): boolean {
    if (this.#opened === undefined) this.#opened = this.#open();
    return this.#opened;
  }

  /**
   * NDJSON without its content type shows by what follows the first object, which stands on a line of its own; only
   * `{"events":` is not read that far.
   */
  #detect(): BulkForm {
    if (this.#text[this.#at] !== OPEN_OBJECT) return 'array';
    if (this.#keyBehindBrace() === 'events') return 'object';
    const behind = skipValue(this.#text, this.#at, this.limit);
    const moreFollows = behind !== UNENDED && skipSpace(this.#text, behind, this.limit) < this.limit;
    return moreFollows && this.#isOneLine(behind) ? 'ndjson' : 'object';
  }

  /** Without this, a document over many lines with something behind its end would be taken for lines, some of them events. */
  #isOneLine(end: number): boolean {
    return !this.#text.subarray(this.#begin, end).includes(NEWLINE);
  }

  #keyBehindBrace(): string | undefined {
    const at = skipSpace(this.#text, this.#at + 1, this.limit);
    if (this.#text[at] !== QUOTE) return undefined;
    const behind = skipString(this.#text, at, this.limit);
    return behind === UNENDED ? undefined : stringAt(this.#text, at, behind);
  }

  /** Moves behind the bracket that opens the events. */
  #open(): boolean {
    if (this.#at >= this.limit) return this.#refuse(`the body is empty: ${EXPECTED}`);
    if (this.#form === 'object' && !this.#openObject()) return false;
    if (this.#text[this.#at] !== OPEN_ARRAY) {
      return this.#refuse(
        this.#form === 'object' ? 'events must be an array' : `the body is no bulk document: ${EXPECTED}`,
      );
    }
    this.#at = skipSpace(this.#text, this.#at + 1, this.limit);
    return true;
  }

  #openObject(): boolean {
    const key = this.#keyBehindBrace();
    if (key !== 'events') {
      return this.#refuse(
        key === undefined
          ? `the body has no member events: ${EXPECTED}`
          : `${JSON.stringify(key.slice(0, QUOTE_MAX_CHARS))} is not a member of a bulk document: ${EXPECTED}`,
      );
    }
    const keyAt = skipSpace(this.#text, this.#at + 1, this.limit);
    this.#at = skipSpace(this.#text, skipString(this.#text, keyAt, this.limit), this.limit);
    if (this.#text[this.#at] !== COLON) return this.#refuseSyntax();
    this.#at = skipSpace(this.#text, this.#at + 1, this.limit);
    return true;
  }

  #nextElement(): BulkStep {
    const text = this.#text;
    if (text[this.#at] === CLOSE_ARRAY && this.#first) return this.#close();
    if (!this.#first) {
      if (text[this.#at] === CLOSE_ARRAY) return this.#close();
      if (text[this.#at] !== COMMA) return this.#syntaxFault();
      this.#at = skipSpace(text, this.#at + 1, this.limit);
    }
    this.#first = false;
    this.start = this.#at;
    this.end = UNENDED;
    return 'event';
  }

  #elementAhead(): number {
    const byte = this.#text[this.#at];
    if (this.#first) return byte === CLOSE_ARRAY ? UNENDED : this.#at;
    return byte === COMMA ? skipSpace(this.#text, this.#at + 1, this.limit) : UNENDED;
  }

  /** Looks for the end of an event in a document; false where there is none: then `fault` says what is wrong. */
  findEnd(): boolean {
    const behind = skipValue(this.#text, this.start, this.limit);
    if (behind === UNENDED || behind === this.start) return this.#refuseSyntax();
    this.end = behind;
    this.#at = skipSpace(this.#text, behind, this.limit);
    return true;
  }

  /** Behind the last event: the brackets that close the document, and nothing more. */
  #close(): BulkStep {
    let behind = this.#at + 1;
    this.#at = skipSpace(this.#text, behind, this.limit);
    if (this.#form === 'object') {
      if (this.#text[this.#at] === COMMA) {
        this.#refuse('a bulk document has no other member than events, once');
        return 'fault';
      }
      if (this.#text[this.#at] !== CLOSE_OBJECT) return this.#syntaxFault();
      behind = this.#at + 1;
      this.#at = skipSpace(this.#text, behind, this.limit);
    }
    if (this.#at >= this.limit) return 'end';
    if (this.#form === 'array' || !this.#isOneLine(behind)) return this.#syntaxFault();
    return 'restart';
  }

  #nextLine(): BulkStep {
    const text = this.#text;
    const at = skipSpace(text, this.#at, this.limit);
    if (at >= this.limit) return 'end';
    const newline = text.indexOf(NEWLINE, at);
    const end = newline === -1 || newline >= this.limit ? this.limit : newline;
    this.start = at;
    this.end = end;
    this.#at = end;
    return 'event';
  }

  #refuse(why: string): false {
    this.fault = why;
    return false;
  }

  #refuseSyntax(): false {
    return this.#refuse(`the body is not valid JSON at byte ${this.#at}`);
  }

  #syntaxFault(): BulkStep {
    this.#refuseSyntax();
    return 'fault';
  }
}
