import { hashOfName } from './identities.js';

/** Event names that are rolled and channels, each with a number, for what is kept per row. */
export class Names {
  readonly #names = new Map<string, { readonly number: number; readonly hash: number }>();
  readonly #channels = new Map<string, number>();

  get count(): number {
    return this.#names.size;
  }

  has(eventName: string): boolean {
    return this.#names.has(eventName);
  }

  add(eventName: string): void {
    if (!this.#names.has(eventName)) {
      this.#names.set(eventName, { number: this.#names.size, hash: hashOfName(eventName) });
    }
  }

  clear(): void {
    this.#names.clear();
  }

  /** Negative where the name was not added. */
  numberOf(eventName: string): number {
    return this.#names.get(eventName)?.number ?? -1;
  }

  hashOf(eventName: string): number {
    return this.#names.get(eventName)?.hash ?? 0;
  }

  channel(channel: string): number {
    let number = this.#channels.get(channel);
    if (number === undefined) {
      number = this.#channels.size;
      this.#channels.set(channel, number);
    }
    return number;
  }
}
