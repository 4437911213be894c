/** saturate and bulk: closed loops, as fast as they go. */
import { measure, planOf } from '../harness/measure.js';
import { hasWrk } from '../harness/wrk.js';

export async function saturate({ options, service, record }) {
  const tools = toolsOf(options);
  for (let run = 1; run <= options.runs; run += 1) {
    for (const tool of tools) {
      const plan = planOf(options, service.url, [{ name: 'saturate', seconds: options.durationS, rate: 0 }]);
      record(
        await measure(service, plan, {
          label: `${plan.endpoint}, ${options.connections} connections, ${tool}`,
          run,
          tool,
        }),
      );
    }
  }
}

/** Which generators a closed loop runs with. */
export function toolsOf({ tool, endpoint }) {
  if (tool === 'node' || !hasWrk() || endpoint === 'bulk') return ['node'];
  return tool === 'both' ? ['node', 'wrk'] : ['wrk'];
}

export async function bulk({ options, service, record }) {
  for (let run = 1; run <= options.runs; run += 1) {
    for (const minimal of [true, false]) {
      const plan = planOf(options, service.url, [{ name: 'bulk', seconds: options.durationS, rate: 0 }], { minimal });
      const label = `bulk of ${options.batch}, ${minimal ? 'return=minimal' : 'with ids'}`;
      record(await measure(service, plan, { label, run }));
    }
  }
}
