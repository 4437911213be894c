/** One line on standard error that is written over; a line each where it is not a terminal. */
const isTerminal = process.stderr.isTTY;
let isOpen = false;

export function progress(text) {
  process.stderr.write(isTerminal ? `\r\x1b[K${text}` : `${text}\n`);
  isOpen = isTerminal;
}

/** A line that stays. */
export function say(text) {
  process.stderr.write(`${isOpen ? '\n' : ''}${text}\n`);
  isOpen = false;
}

const BAR_CHARS = 30;
/** Where lines stay, one now and then is enough. */
const PERIOD_MS = isTerminal ? 100 : 2_000;

/**
 * A progress bar of work whose size is known: how far, how fast, how long still.
 * @param {string} what
 * @param {number} total
 * @returns {(done: number) => void}
 */
export function progressBar(what, total, unit = 'rows') {
  const startMs = performance.now();
  let shownMs = -Infinity;
  let first;
  return (done) => {
    const nowMs = performance.now();
    first ??= done;
    if (nowMs - shownMs < PERIOD_MS && done < total) return;
    shownMs = nowMs;
    const share = total === 0 ? 1 : Math.min(1, done / total);
    const full = Math.round(share * BAR_CHARS);
    const perS = ((done - first) * 1000) / Math.max(1, nowMs - startMs);
    const left = perS > 0 && done < total ? `, ${Math.ceil((total - done) / perS)} s left` : '';
    const count = (value) => Math.round(value).toLocaleString('en');
    const bar = `${'#'.repeat(full)}${'.'.repeat(BAR_CHARS - full)}`;
    progress(
      `${what} [${bar}] ${Math.floor(share * 100)} %, ${count(done)} of ${count(total)} ${unit}, ${count(perS)}/s${left}`,
    );
  };
}
