import { readdirSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

/**
 * Who gets a processor when there is not one for everybody. What a client waits for comes first; what makes events countable, a
 * moment later: it has the log in front of it (docs/decisions/0013-who-waits-for-whom.md).
 *
 * Linux: a thread has a nice value of its own (setpriority(2)). Elsewhere it belongs to the process, and nothing is changed.
 */

/** Steps of niceness below what the process was started with: about a third of the share of time. */
const BEHIND = 5;
const NICE_MAX = 19;
const CALLING_THREAD = 0;

/** Puts the calling thread, or all threads of the process, and those that they start from now on, behind those that answer requests. */
export function yieldToRequests(who: 'thread' | 'process'): void {
  if (process.platform !== 'linux') return;
  const nice = Math.min(NICE_MAX, getPriority() + BEHIND);
  for (const thread of who === 'thread' ? [CALLING_THREAD] : threadsOfProcess()) {
    try {
      setPriority(thread, nice);
    } catch {
      // It has just ended, or a sandbox forbids it: then all are alike.
    }
  }
}

function threadsOfProcess(): number[] {
  try {
    return readdirSync('/proc/self/task').map(Number);
  } catch {
    return [CALLING_THREAD]; // no /proc
  }
}
