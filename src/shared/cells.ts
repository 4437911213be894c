import type { MessagePort } from 'node:worker_threads';
import type { MetricsQuestion } from './metrics/parameters.js';

/** What crosses the borders of the cells thread: questions from main, commits from the roller. */

/** From the roller, in the order of its commits. */
export type CommitMessage =
  /** The rollup is at this commit, and the roller will tell of each that follows. */
  | { readonly type: 'at'; readonly commits: number }
  /** A commit took place: nothing else was changed by it. */
  | { readonly type: 'added'; readonly commits: number; readonly groups: readonly AddedGroup[] }
  /** The roller has written exceptions, which the commits that follow make necessary. */
  | { readonly type: 'excepted' }
  /** Somebody else commits, or cells are made anew: what follows is not known. */
  | { readonly type: 'lost' };

/** Events that a commit added to one event name and channel, by minute: `entries[ends[i - 1]]` to before `entries[ends[i]]` are of `minutes[i]`. */
export interface AddedGroup {
  readonly eventName: string;
  readonly channel: string;
  /** Since 1970. */
  readonly minutes: Uint32Array;
  readonly ends: Uint32Array;
  /** Second of the minute << 32 | number of the user. */
  readonly entries: Float64Array;
  /** CELLS_OF of each minute. */
  readonly cells: Uint8Array;
}

/** Bits: whether a minute's events went into the cells of the first generation, of its event name and of all names. */
export const CELLS_OF = { name: 1, allNames: 2 } as const;

/** To the roller, on its control port. */
export type RollerMessage =
  | { readonly type: 'stop' }
  /** `port` is to take CommitMessages from now on. */
  | { readonly type: 'follow'; readonly port: MessagePort };

/** To the cells thread. */
export type CellsMessage =
  | { readonly type: 'ask'; readonly ask: CellsAsk }
  /** A roller has started: `port` gives CommitMessages. */
  | { readonly type: 'roller'; readonly port: MessagePort }
  /** Memory of an answer that was sent: another may be put together in it. */
  | { readonly type: 'memory'; readonly memory: ArrayBuffer }
  | { readonly type: 'stop' };

export interface CellsAsk {
  readonly id: number;
  readonly question: MetricsQuestion;
  /** Unix seconds: for the answer, read before it was asked for. */
  readonly asOf: number;
  /** What is left of its time. */
  readonly timeoutMs: number;
}

/** Why cells in memory do not answer. */
export const CELLS_MISSES = [
  /** Another instance rolls, or this one has just begun to. */
  'unowned',
  /** They are being loaded. */
  'cold',
  /** The question needs more cells than are kept. */
  'large',
  /** They could not be loaded. */
  'failed',
] as const;
export type CellsMiss = (typeof CELLS_MISSES)[number];

/** An answer. */
export interface CellsAnswer {
  /** JSON text. */
  readonly body: Uint8Array<ArrayBuffer>;
  /** How often the roller had written exceptions, up to the last commit that is in the answer. */
  readonly excepted: number;
}

/** Memory of answers that goes back to the cells thread. Less is not worth the way, more not worth being kept. */
export const ANSWER_MEMORY = { minBytes: 64 * 1024, maxBytes: 2 * 1024 * 1024 } as const;

/** From the cells thread. */
export type CellsReply =
  | { readonly id: number; readonly answer: CellsAnswer }
  | { readonly id: number; readonly miss: CellsMiss };
