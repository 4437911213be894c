/** One question after the other: each answer compared with the truth first, then its time, the systems in turn. */
import { progress, say } from '../harness/progress.js';
import { round } from '../harness/load.js';
import { differences, excess, nowS } from './questions.js';
import { isPenstock } from './systems.js';

/** A median of fewer is none, however slow a system is. */
const RUNS_MIN = 3;

/** The value below which `share` of the samples lie (nearest rank). */
export function percentile(samples, share) {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
}

/**
 * Asks `system` once, untimed, and compares.
 * @returns {Promise<{ label: string, system: string, exact: boolean, groups: number, excess: number | null, why?: string[] }>}
 */
export async function check(system, question, truth, atS = nowS()) {
  const right = (await truth.ask(question, atS)).read();
  const which = { label: question.label, system: system.name, groups: right.size };
  try {
    const answer = (await system.ask(question, atS)).read();
    const why = differences(answer, right);
    return {
      ...which,
      exact: why.length === 0,
      excess: round(excess(answer, right), 6),
      ...(why.length > 0 && { why }),
    };
  } catch (error) {
    return { ...which, exact: false, excess: null, why: [error.message], failed: true };
  }
}

/**
 * Times of one question, the systems by turns, so that a noisy moment is noisy for all of them. A system is done after `runs`
 * answers or `seconds`, whichever is first, but not before RUNS_MIN.
 * @returns {Promise<Map<string, { ms: number[], lagS: number[] }>>} by the systems' names; lagS: how old Penstock's answers were
 */
export async function time(systems, question, { runs, seconds }) {
  const times = new Map(systems.map(({ name }) => [name, { ms: [], spentMs: 0, lagS: [] }]));
  const isDone = ({ ms, spentMs }) => ms.length >= runs || (ms.length >= RUNS_MIN && spentMs >= seconds * 1000);
  for (;;) {
    const open = systems.filter(({ name }) => !isDone(times.get(name)));
    if (open.length === 0) return times;
    for (const system of open) {
      const of = times.get(system.name);
      const { ms, text } = await system.ask(question);
      of.ms.push(round(ms, 3));
      of.spentMs += ms;
      if (text !== undefined) of.lagS.push(round(Date.now() / 1000 - JSON.parse(text).as_of, 3));
    }
  }
}

/** A sample as the result has it. */
export function sampleOf(label, system, { ms }) {
  return { label, system, runs: ms.length, p50: percentile(ms, 0.5), p95: percentile(ms, 0.95), ms };
}

/**
 * All questions, quietly. A wrong answer of Penstock is not timed, nor what fails.
 * @returns {Promise<{ samples: object[], verification: object[] }>}
 */
export async function measureQuiet(systems, truth, list, options) {
  const samples = [];
  const verification = [];
  for (const [index, question] of list.entries()) {
    progress(`${index + 1}/${list.length} ${question.label}`);
    const timed = [];
    for (const system of systems) {
      const checked = await check(system, question, system.truth ?? truth);
      verification.push(checked);
      const isWrong = isPenstock(system.name) && !checked.exact;
      if (isWrong) say(`NOT EXACT: ${question.label}: ${checked.why.join('; ')}`);
      if (checked.failed) say(`${system.name} has no answer: ${question.label}: ${checked.why.join('; ')}`);
      if (!isWrong && !checked.failed) timed.push(system);
    }
    const times = await time(timed, question, options);
    for (const { name } of timed) samples.push(sampleOf(question.label, name, times.get(name)));
    say(
      `${question.label}: ${samples
        .slice(-timed.length)
        .map(({ system, p50 }) => `${system} ${p50} ms`)
        .join(', ')}`,
    );
  }
  return { samples, verification };
}
