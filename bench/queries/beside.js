/** The same questions to a Penstock with another number of rows, by turns with the first: what more rows cost, and not what the hour does. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { UsageError } from '../harness/options.js';
import { startPenstock } from '../harness/service.js';
import { questions } from './questions.js';
import { penstock, truth } from './systems.js';

/**
 * Starts Penstock on a data set that a run with --data-dir left.
 * @returns {Promise<import('./systems.js').System & { truth: object }>} `truth`: that of its own rows
 */
export async function startBeside(dir, settings) {
  const kept = resolve(dir);
  const file = join(kept, 'dataset.json');
  if (!existsSync(file))
    throw new UsageError(`--beside ${dir}: no data set there; make one with --rows and --data-dir`);
  const dataset = JSON.parse(readFileSync(file, 'utf8'));
  if (dataset.changed) throw new UsageError(`--beside ${dir}: live events were added to it; take one without`);
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
