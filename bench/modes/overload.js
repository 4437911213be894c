/**
 * overload: what is left of the peak when more is asked. First the peak; then an open loop of 1.3 times as much, whose clients wait
 * as `Retry-After` says; then many connections that try again at once. What counts is the events acknowledged a second.
 */
import { round } from '../harness/load.js';
import { measure, planOf } from '../harness/measure.js';

const PEAK_CONNECTIONS = 256;
const OVER = 1.3;

export async function overload({ options, service, record, note }) {
  for (let run = 1; run <= options.runs; run += 1) {
    const seconds = options.durationS;
    const perRequest = options.endpoint === 'bulk' ? options.batch : 1;
    const run1 = async (label, phase, own) => {
      const measured = await measure(service, planOf(options, service.url, [{ name: label, seconds, ...phase }], own), {
        label,
        run,
      });
      record(measured);
      return measured.samples[0].eventsPerS;
    };
    const connections = Math.min(PEAK_CONNECTIONS, options.connections);
    const peak = await run1('peak', { rate: 0 }, { connections });
    const offered = Math.round((peak / perRequest) * OVER);
    const honoured = await run1(`${OVER} × peak, Retry-After honoured`, { rate: offered }, { retry: 'honour' });
    const atOnce = await run1(
      `${options.connections} connections that retry at once`,
      { rate: 0 },
      { retry: 'at once' },
    );
    note({
      run,
      offeredPerS: offered,
      goodputHonoured: round(honoured / peak, 3),
      goodputAtOnce: round(atOnce / peak, 3),
    });
  }
}
