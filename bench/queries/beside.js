/** The same questions to a Penstock with another number of rows, by turns with the first: what more rows cost, and not what the hour does. */
import { startPenstock } from '../harness/service.js';
import { questions } from './questions.js';
import { penstock, truth } from './systems.js';

/**
 * Starts Penstock on a data set that a run with --data-dir left.
 * @param {{ kept: string, dataset: import('./dataset.js').Dataset }} beside the directory, and what is in it
 * @returns {Promise<import('./systems.js').System & { truth: object }>} `truth`: that of its own rows
 */
export async function startBeside({ kept, dataset }, settings) {
  const service = await startPenstock({ settings, kept });
  const [own, right] = [penstock(service), truth(service.clickhouse)];
  const list = questions(dataset, { live: false });
  // Each data set ends at the midnight before it was made: its range is its own.
  const asksFor = (system) => (question, atS) =>
    system.ask(
      list.find(({ label }) => label === question.label),
      atS,
    );
  return {
    name: `penstock, ${dataset.rows / 1e6} M rows`,
    ask: asksFor(own),
    truth: { ask: asksFor(right) },
    async close() {
      await own.close();
      await right.close();
      await service.stop();
    },
  };
}
