import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { CommitMessage } from '../../shared/cells.js';
import type { CellMirror } from './mirror.js';

/** The port on which a roller tells of its commits. */
export class RollerPort {
  readonly #mirror: CellMirror;
  #port: MessagePort | undefined;

  constructor(mirror: CellMirror) {
    this.#mirror = mirror;
  }

  /** A roller has started, the one before has ended. */
  connect(port: MessagePort): void {
    this.close();
    this.#port = port;
    port.on('message', (message: CommitMessage) => {
      if (port === this.#port) this.#mirror.follow(message);
    });
    port.on('close', () => {
      if (port === this.#port) this.#mirror.lose();
    });
  }

  /**
   * Takes what the roller has said so far, at once: main reads `as_of` before it asks, and the roller posts a commit before `as_of`
   * moves with it, so that every commit that an answer must have is on the port by now.
   */
  catchUp(): void {
    while (this.#port !== undefined) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) return;
      this.#mirror.follow(received.message as CommitMessage);
    }
  }

  close(): void {
    this.#port?.close();
    this.#port = undefined;
    this.#mirror.lose();
  }
}
