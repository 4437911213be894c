/** What a process uses, read from /proc: CPU in all, by thread, and of its children; resident memory. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const TICKS_PER_S = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** CPU milliseconds of a process, its ended threads included, its children not. */
export function cpuMs(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name in brackets may have spaces; utime and stime are the 14th and 15th field.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_S;
}

/** CPU milliseconds that the machine has worked, for whomever. */
export function machineCpuMs() {
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'latin1').split(/\s+/, 8).map(Number);
  return ((user + nice + system + irq + softirq) * 1000) / TICKS_PER_S;
}

/** CPU milliseconds by the threads' names, those of the same name added up. */
export function threadCpuMs(pid) {
  const byName = {};
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const read = (file) => readFileSync(`/proc/${pid}/task/${tid}/${file}`, 'latin1');
    try {
      const name = Number(tid) === pid ? 'main' : read('comm').trim();
      byName[name] = (byName[name] ?? 0) + Number(read('schedstat').split(' ')[0]) / 1e6;
    } catch (error) {
      if (error.code !== 'ENOENT' && error.code !== 'ESRCH') throw error;
    }
  }
  return byName;
}

/** Resident memory in MiB, now and at its highest. */
export function memoryMiB(pid) {
  const text = readFileSync(`/proc/${pid}/status`, 'latin1');
  const of = (name) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(text)?.[1] ?? 0) / 1024);
  return { now: of('VmRSS'), peak: of('VmHWM') };
}

/** The process ids of all children. */
export function childrenOf(pid) {
  return readdirSync(`/proc/${pid}/task`).flatMap((tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
  );
}
