/**
 * wrk as the other generator: written by others, in C, the cheapest there is. It counts what was answered when it ends; the
 * requests that are open then, at most one a connection, may count or not.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventNames, eventTexts } from '../generator/payload.js';
import { newTag, round } from './load.js';
import { machineCpuMs } from './processes.js';

const SCRIPT = fileURLToPath(new URL('wrk.lua', import.meta.url));
const COMMAND = 'wrk';
const MARK = 'RESULT ';
let found;

export function hasWrk() {
  found ??= spawnSync(COMMAND, ['-v']).error === undefined;
  return found;
}

/**
 * @param {import('./load.js').Plan} plan one closed loop on single events
 * @param {{ snapshot: () => object }} watched
 * @returns the same shape as `runLoad`
 */
export async function runWrk(plan, { snapshot }) {
  const warmUp = plan.phases.find((phase) => phase.warmUp);
  const measured = plan.phases.find((phase) => !phase.warmUp);
  if (warmUp !== undefined && warmUp.seconds >= 1) await once(plan, newTag(), warmUp.seconds);
  const tag = newTag();
  const before = { atMs: performance.now(), machineCpuMs: machineCpuMs(), ...snapshot() };
  const answer = await once(plan, tag, measured.seconds);
  const after = { atMs: performance.now(), machineCpuMs: machineCpuMs(), ...snapshot() };
  const events = answer.requests - answer.statusErrors;
  const failed = answer.statusErrors + answer.socketErrors;
  const ms = (name) => round(answer[name] / 1000, 3);
  const latencyMs = {
    p50: ms('p50'),
    p90: ms('p90'),
    p95: ms('p95'),
    p99: ms('p99'),
    p999: ms('p999'),
    max: ms('max'),
  };
  const rate = round((events * 1e6) / answer.durationUs, 1);
  const phase = {
    phase: measured.name,
    offeredPerS: 0,
    seconds: round(answer.durationUs / 1e6, 3),
    requestsPerS: rate,
    eventsPerS: rate,
    events,
    refused: 0,
    failed,
    unsent: 0,
    errorShare: answer.requests === 0 ? 0 : round(failed / answer.requests, 5),
    latencyMs,
    before: { ...before, generatorCpuMs: 0, requests: 0 },
    after: { ...after, generatorCpuMs: answer.cpuMs, requests: answer.requests },
  };
  return {
    tag,
    names: eventNames(plan.payload, tag),
    phases: [phase],
    seconds: [],
    expected: { acknowledged: events, unanswered: plan.connections + failed, users: null },
    failures: failed === 0 ? [] : [{ what: 'errors that wrk counted', times: failed }],
  };
}

async function once(plan, tag, seconds) {
  const directory = mkdtempSync(join(tmpdir(), 'penstock-bench-wrk-'));
  try {
    const events = join(directory, 'events');
    writeFileSync(events, eventTexts(plan.payload, tag).join('\n'));
    const threads = Math.min(plan.threads, plan.connections);
    const whole = Math.max(1, Math.round(seconds));
    const args = [
      `-t${threads}`,
      `-c${plan.connections}`,
      `-d${whole}s`,
      '--timeout',
      '10s',
      '-s',
      SCRIPT,
      `${plan.url}/events`,
    ];
    return await run([...args, '--', events, String(plan.users)]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function run(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(COMMAND, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        output += String(data);
      });
    }
    child.once('error', reject);
    child.once('close', (code) => {
      const at = output.indexOf(MARK);
      if (code !== 0 || at === -1) reject(new Error(`wrk ended with ${code}:\n${output}`));
      else resolve(JSON.parse(output.slice(at + MARK.length, output.indexOf('\n', at))));
    });
  });
}
