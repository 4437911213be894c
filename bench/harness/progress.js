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
