/** HTTP as a dashboard speaks it: one connection that is kept open. */
import { once } from 'node:events';
import http from 'node:http';

/** No answer for this long is a failure; more than any of the services give a question. */
const ANSWER_MS = 180_000;

export class KeptConnection {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

  /** @returns {Promise<{ status: number, text: string }>} with the whole body */
  async exchange(url, options = {}, body) {
    const request = http.request(url, { ...options, agent: this.#agent, signal: AbortSignal.timeout(ANSWER_MS) });
    request.end(body);
    try {
      const [response] = await once(request, 'response');
      const parts = [];
      for await (const part of response) parts.push(part);
      return { status: response.statusCode, text: Buffer.concat(parts).toString(), headers: response.headers };
    } catch (error) {
      // The other side closed the idle connection just when we wrote.
      if (request.reusedSocket && error.code === 'ECONNRESET') return this.exchange(url, options, body);
      throw error;
    }
  }

  /** An open connection would hold up the end of the embedded ClickHouse. */
  close() {
    this.#agent.destroy();
  }
}

/** The rows of a SELECT as arrays. */
export async function selectRows(connection, { url, user, password }, query) {
  const headers = { 'X-ClickHouse-User': user, 'X-ClickHouse-Key': password };
  const target = `${url}/?wait_end_of_query=1&output_format_json_quote_64bit_integers=0`;
  const { status, text } = await connection.exchange(
    target,
    { method: 'POST', headers },
    `${query} FORMAT JSONCompactEachRow`,
  );
  if (status !== 200) throw new Error(`ClickHouse answered ${status}: ${text.slice(0, 300)}`);
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}
