import type { Producer } from './producer.js';

/**
 * Asks for the total again and again while a producer sends, and holds every answer to its `as_of`: whatever was
 * acknowledged before that moment must be in it. The service may be killed meanwhile: no answer promises nothing.
 */
export class AsOfWatch {
  /** Answers that were held to their `as_of`. */
  answers = 0;
  /** Answers that lacked events. */
  readonly broken: string[] = [];
  readonly #producer: Producer;
  /** How many identities were acknowledged at which moment (Unix ms), ascending. */
  readonly #history: { readonly at: number; readonly identities: number }[] = [];
  readonly #ended: Promise<void>;
  #stopping = false;

  constructor(producer: Producer) {
    this.#producer = producer;
    this.#ended = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#ended;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      this.#history.push({ at: Date.now(), identities: this.#producer.tally.acknowledged });
      const { url } = this.#producer;
      const answer = url === undefined ? undefined : await total(url);
      if (answer !== undefined) this.#hold(answer);
      await new Promise((resolve) => {
        setTimeout(resolve, 50);
      });
    }
  }

  #hold({ total_events, as_of }: Total): void {
    this.answers += 1;
    const promised = this.#history.findLast(({ at }) => at < as_of * 1000)?.identities ?? 0;
    if (total_events < promised)
      this.broken.push(`as_of ${as_of} with ${total_events} events, ${promised} were acknowledged by then`);
  }
}

interface Total {
  readonly total_events: number;
  readonly as_of: number;
}

async function total(url: string): Promise<Total | undefined> {
  try {
    const response = await fetch(`${url}/metrics?event_name=*`);
    return response.status === 200 ? ((await response.json()) as Total) : undefined;
  } catch {
    return undefined;
  }
}
