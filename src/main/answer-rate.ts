/**
 * Requests answered a second lately: a moving average over the seconds in which there was something to answer. Rest says
 * nothing about how fast we are.
 */
export class AnswerRate {
  #answered = 0;
  #perSecond = 0;

  /** 0 where nothing was answered yet. */
  get perSecond(): number {
    return this.#perSecond;
  }

  answered(): void {
    this.#answered += 1;
  }

  /** To be called every second; `open` requests have no answer yet. */
  secondOver(open: number): void {
    if (this.#answered > 0 || open > 0) {
      const known = this.#perSecond;
      this.#perSecond = known === 0 ? this.#answered : (known + this.#answered) / 2;
    }
    this.#answered = 0;
  }
}
