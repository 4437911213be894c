/** Sends events to POST /events/bulk over a few connections; what is refused for now is sent again when the answer says so. */
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const CONNECTIONS = 4;
/** As many as the service takes in one body. */
const BATCH_MAX = 10_000;

export class BulkSender {
  refusals = 0;
  #url;
  #agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });

  constructor(url) {
    this.#url = `${url}/events/bulk`;
  }

  /** Resolves when all of them are durable. @param {string[]} lines JSON, one event each */
  async send(lines) {
    const bodies = [];
    for (let from = 0; from < lines.length; from += BATCH_MAX) bodies.push(lines.slice(from, from + BATCH_MAX));
    await Promise.all(
      Array.from({ length: CONNECTIONS }, async () => {
        for (let body = bodies.shift(); body !== undefined; body = bodies.shift()) await this.#post(body);
      }),
    );
  }

  async #post(lines) {
    const headers = { 'Content-Type': 'application/x-ndjson', Prefer: 'return=minimal' };
    for (;;) {
      const request = http.request(this.#url, { method: 'POST', headers, agent: this.#agent }).end(lines.join('\n'));
      const [response] = await once(request, 'response');
      let text = '';
      for await (const part of response.setEncoding('utf8')) text += part;
      const { statusCode } = response;
      if (statusCode === 202 && JSON.parse(text).accepted === lines.length) return;
      if (statusCode !== 503 && statusCode !== 429)
        throw new Error(`POST /events/bulk answered ${statusCode} ${text.slice(0, 500)}`);
      this.refusals += 1;
      await sleep(Number(response.headers['retry-after'] ?? 1) * 1000);
    }
  }

  close() {
    this.#agent.destroy();
  }
}
