import { once } from 'node:events';

/**
 * What the operator's commands say and how: the answer alone on standard output, aligned for people or JSON for machines;
 * progress and log lines on standard error; the exit code says whether there is something to look at.
 */

export const EXIT_WELL = 0;
/** The command did its work, and found something that wants a person. */
export const EXIT_FINDING = 1;

/** The command was asked for something that cannot be meant; nothing was done. */
export class UsageError extends Error {}

/** Writes to standard output, and waits where the reader is slow. A reader that has gone ends the command, quietly. */
export async function print(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

export async function printJson(value: unknown): Promise<void> {
  await print(`${JSON.stringify(value, undefined, 2)}\n`);
}

export type Cell = string | number | undefined;

/** Columns two spaces apart, numbers to the right with their thousands set apart; no space at the ends of lines. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const texts = rows.map((row) => row.map(cellText));
  const widths = head.map((title, column) => Math.max(title.length, ...texts.map((row) => row[column]?.length ?? 0)));
  const toTheRight = head.map((_title, column) => rows.some((row) => typeof row[column] === 'number'));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        toTheRight[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [head, ...texts].map((cells) => `${line(cells)}\n`).join('');
}

function cellText(cell: Cell): string {
  if (cell === undefined) return '-';
  return typeof cell === 'number' ? formatCount(cell) : cell;
}

/** `1234567` → `1,234,567`, whatever the locale. */
export function formatCount(value: number): string {
  return String(Math.round(value)).replaceAll(/\B(?=(\d{3})+$)/g, ',');
}

/** `3 events`, `1 event`. */
export function count(value: number, noun: string): string {
  return `${formatCount(value)} ${noun}${value === 1 ? '' : 's'}`;
}

const PROGRESS_MS = 1_000;

/** At most a line a second on standard error, and none at all for work that is done before. */
export class Progress {
  #lastMs = performance.now();

  /** `line` is asked for its text only where it is due. */
  tick(line: () => string): void {
    if (performance.now() - this.#lastMs < PROGRESS_MS) return;
    this.#lastMs = performance.now();
    process.stderr.write(`${line()}\n`);
  }
}
