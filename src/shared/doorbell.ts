/**
 * How one thread sleeps until another has something for it.
 *
 * One Int32 cell: 1 while the owner sleeps. The owner stores 1, looks at everything it waits for once more, and only then
 * waits; the other side makes its news visible first and looks at the cell after. Atomics are sequentially consistent, so
 * one of the two sees the other: no wake-up is missed. Who turns the cell from 1 to 0 does the waking, so a sleeper is
 * woken once however many ring.
 */
const AWAKE = 0;
const ASLEEP = 1;

export function createDoorbell(): SharedArrayBuffer {
  return new SharedArrayBuffer(4);
}

/** The side of a thread that blocks in `Atomics.wait` (every thread but main). */
export class Sleeper {
  readonly #cell: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#cell = new Int32Array(memory);
  }

  /** Announces sleep; look at every source after this call, then `sleep` or `stayAwake`. */
  prepare(): void {
    Atomics.store(this.#cell, 0, ASLEEP);
  }

  stayAwake(): void {
    Atomics.store(this.#cell, 0, AWAKE);
  }

  /** Blocks until someone rings, or `timeoutMs` have passed. */
  sleep(timeoutMs: number): void {
    Atomics.wait(this.#cell, 0, ASLEEP, timeoutMs);
    Atomics.store(this.#cell, 0, AWAKE);
  }
}

/** The side of who has news: `wake` defaults to waking a thread in `Sleeper.sleep`. */
export class Doorbell {
  readonly #cell: Int32Array;
  readonly #wake: () => void;

  constructor(memory: SharedArrayBuffer, wake?: () => void) {
    const cell = new Int32Array(memory);
    this.#cell = cell;
    this.#wake = wake ?? (() => void Atomics.notify(cell, 0));
  }

  ring(): void {
    if (Atomics.load(this.#cell, 0) === AWAKE) return;
    if (Atomics.compareExchange(this.#cell, 0, ASLEEP, AWAKE) === ASLEEP) this.#wake();
  }
}
