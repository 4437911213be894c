import { isMainThread } from 'node:worker_threads';

/**
 * Preloaded with `--import`: ends the thread that parses an event with the marker in it, as a fault in native code would:
 * at once, past every handler, in the middle of its batch.
 */

const MARKER = 'ends the thread that reads it';

if (!isMainThread) {
  const { parse } = JSON;
  JSON.parse = (text: string, reviver?: (this: unknown, key: string, value: unknown) => unknown): unknown => {
    if (typeof text === 'string' && text.includes(MARKER)) process.exit(1);
    return parse(text, reviver) as unknown;
  };
}
