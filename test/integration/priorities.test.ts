import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { platform } from 'node:process';
import { after, before, test } from 'node:test';
import { event, send } from '../support/requests.js';
import { Service, until } from '../support/service.js';

/** Who waits for whom where there is not a processor for everybody: by the nice values that the kernel goes by. */

const own = getPriority();
const BEHIND = 5;
const elsewhere =
  (platform !== 'linux' && 'nice values of threads are of Linux') ||
  (own > 19 - BEHIND && 'there is nothing behind this');

/** Fields of /proc/PID/stat behind the name, which may hold anything (proc(5)). */
function statOf(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Of each thread of a process, how nice it is. */
function niceValues(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    try {
      return [Number(statOf(`/proc/${pid}/task/${thread}/stat`)[16])];
    } catch {
      return []; // it has just ended
    }
  });
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return Number(statOf(`/proc/${pid}/stat`)[1]) === parent;
      } catch {
        return false;
      }
    });
}

let service: Service;
before(async () => {
  service = await Service.start();
});
after(async () => {
  await service.dispose();
});

test('ClickHouse and the roller come after what answers requests', { skip: elsewhere }, async () => {
  assert.equal((await send(`${service.url}/events`, { method: 'POST', body: JSON.stringify(event()) })).status, 202);
  await until(() => niceValues(service.pid).some((nice) => nice > own), 'the roller has started');
  const threads = niceValues(service.pid);
  assert.equal(
    threads.filter((nice) => nice === own + BEHIND).length,
    1,
    `${threads.join(' ')}: the roller, nobody else`,
  );
  assert.equal(threads.filter((nice) => nice === own).length, threads.length - 1);
  const [clickhouse] = childrenOf(service.pid);
  assert.ok(clickhouse !== undefined);
  const ofClickHouse = niceValues(clickhouse);
  assert.ok(ofClickHouse.length > 20 && !ofClickHouse.includes(own), ofClickHouse.join(' '));
});
