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

/** Puts the calling thread, and those that it starts from now on, behind those that answer requests. */
export function yieldToRequests(): void {
  behind([0]);
}

/** The same of all threads of this process, and of those that they start. */
export function yieldAllToRequests(): void {
  if (process.platform === 'linux') behind(readdirSync('/proc/self/task').map(Number));
}

/** By thread id; 0 is the calling one. */
function behind(threads: readonly number[]): void {
  if (process.platform !== 'linux') return;
  const nice = Math.min(NICE_MAX, getPriority() + BEHIND);
  for (const thread of threads) {
    try {
      setPriority(thread, nice);
    } catch {
      // It has just ended, or a sandbox forbids it: then all are alike.
    }
  }
}
