/**
 * One connection and the events it is sending. A body that was refused for now (503, 429) or got no answer is sent again
 * until it is acknowledged, as a producer does: so the numbers of a generator are acknowledged without gaps, and what must be
 * stored is known exactly.
 */
import { Connection } from './connection.js';
import { RequestBytes } from './payload.js';
import { nowMs } from './shared.js';

export class Lane {
  /** The first number of the body in hand. */
  first = -1;
  /** Acknowledged, or refused for good: the next request is a new one. */
  settled = true;
  /** Acknowledged at least once: the body may be sent again as a duplicate. */
  acknowledged = false;
  intendedMs = 0;
  sentMs = 0;
  phase = 0;
  #requests;
  #turn = -1;
  #connection;

  /**
   * @param {{ target: object, texts: string[], batch: number }} plan
   * @param {{ onAnswer: (lane: Lane, answer: import('./connection.js').Answer) => void, onLost: (lane: Lane, why: string) => void }} events
   */
  constructor({ target, texts, batch }, { onAnswer, onLost }) {
    this.#connection = new Connection(
      target,
      (answer) => onAnswer(this, answer),
      (why) => onLost(this, why),
    );
    const bodies = batch > 1 ? [texts] : texts.map((text) => [text]);
    this.#requests = bodies.map((body) => new RequestBytes(target, body, batch));
  }

  open() {
    return this.#connection.open();
  }

  close() {
    this.#connection.close();
  }

  /** Takes new events. */
  renew(first) {
    this.first = first;
    this.settled = false;
    this.acknowledged = false;
    this.#turn = (this.#turn + 1) % this.#requests.length;
    this.#requests[this.#turn].write(first);
  }

  send(intendedMs, phase) {
    this.intendedMs = intendedMs;
    this.phase = phase;
    this.sentMs = nowMs();
    this.#connection.send(this.#requests[this.#turn].bytes);
  }
}
