import type { MessagePort } from 'node:worker_threads';
import { type AddedGroup, CELLS_OF, type CommitMessage } from '../../shared/cells.js';
import { type AddedMinutes, type Deltas, type GenerationOf, MINUTES_OF_DAY } from './deltas.js';

/** Is told of every commit, in order, as long as no other roller makes one. */
export interface CommitFollower {
  /** The rollup is at this commit. */
  at(commits: number): void;
  /** The next commit took place and added this. */
  added(commits: number, deltas: Deltas, generationOf: GenerationOf): void;
  /** Exceptions were written that the commits behind this make necessary. */
  excepted(): void;
  /** What is in the rollup now is not known here, until the next call. */
  lost(): void;
}

/** Tells whoever has the other end of `port` of commits. */
export function followerAt(port: MessagePort): CommitFollower {
  const tell = (message: CommitMessage, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);
  return {
    at: (commits) => tell({ type: 'at', commits }),
    lost: () => tell({ type: 'lost' }),
    excepted: () => tell({ type: 'excepted' }),
    added(commits, deltas, generationOf) {
      const groups = addedGroups(deltas, generationOf);
      const buffers = groups.flatMap(({ minutes, ends, entries, cells }) =>
        [minutes, ends, entries, cells].map(({ buffer }) => buffer as ArrayBuffer),
      );
      tell({ type: 'added', commits, groups }, buffers);
    },
  };
}

function addedGroups(deltas: Deltas, generationOf: GenerationOf): AddedGroup[] {
  return [...deltas.groups()].map((group) => addedGroup(group, generationOf));
}

function addedGroup({ eventName, channel, minutes }: AddedMinutes, generationOf: GenerationOf): AddedGroup {
  const filled = [...minutes].toSorted(([a], [b]) => a - b);
  const ends = new Uint32Array(filled.length);
  const cells = new Uint8Array(filled.length);
  const all = new Float64Array(filled.reduce((sum, [, entries]) => sum + entries.length, 0));
  let at = 0;
  for (const [index, [minute, entries]] of filled.entries()) {
    all.set(entries, at);
    at += entries.length;
    ends[index] = at;
    const day = Math.floor(minute / MINUTES_OF_DAY);
    cells[index] =
      (generationOf(eventName, day) === 0 ? CELLS_OF.name : 0) | (generationOf('', day) === 0 ? CELLS_OF.allNames : 0);
  }
  return { eventName, channel, minutes: Uint32Array.from(filled, ([minute]) => minute), ends, entries: all, cells };
}
