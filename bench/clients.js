/**
 * What a request costs the generator: our connection against undici's cheapest call, alternating, on a service that
 * answers 202 to nothing. Why the generator has a connection of its own. Usage: node bench/clients.js [--requests N] [--runs N]
 */
import { parseArgs } from 'node:util';
import { Pool } from 'undici';
import { Connection } from './generator/connection.js';
import { eventTexts, RequestBytes } from './generator/payload.js';
import { median } from './harness/report.js';
import { startPeer } from './harness/service.js';

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '20000' },
    runs: { type: 'string', default: '5' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(
    'node bench/clients.js [--requests N] [--runs N]\nCPU of the generator a request, and requests/s, on one thread.',
  );
  process.exit(0);
}
const requests = Number(values.requests);
const CONNECTIONS = 64;
const USERS = 100_000;
const [text] = eventTexts('seed', 'clients');

/** As many requests, by as many connections, as `send(done)` sends one. */
function drive(senders) {
  return new Promise((resolve) => {
    let left = requests;
    let open = senders.length;
    for (const send of senders) {
      const next = () => {
        left -= 1;
        if (left >= 0) send(next);
        else if ((open -= 1) === 0) resolve();
      };
      next();
    }
  });
}

async function ours(url) {
  const { hostname, port, host } = new URL(url);
  const target = { host, path: '/events', headers: 'Content-Type: application/json\r\n', users: USERS };
  let number = 0;
  const connections = [];
  const senders = Array.from({ length: CONNECTIONS }, () => {
    const bytes = new RequestBytes(target, [text], 1);
    let done;
    const connection = new Connection(
      { hostname, port: Number(port) },
      () => done(),
      (why) => {
        throw new Error(why);
      },
    );
    connections.push(connection);
    return (next) => {
      done = next;
      bytes.write(number++);
      connection.send(bytes.bytes);
    };
  });
  await Promise.all(connections.map((connection) => connection.open()));
  const used = await timed(() => drive(senders));
  for (const connection of connections) connection.close();
  return used;
}

async function undici(url) {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 });
  const headers = ['content-type', 'application/json'];
  let number = 0;
  const senders = Array.from({ length: CONNECTIONS }, () => (next) => {
    const body = text
      .replace('UUUUUUU', String(number % USERS).padStart(7, '0'))
      .replace('NNNNNNNNNN', String(number++).padStart(10, '0'))
      .replace('TTTTTTTTTT', '1763640000');
    const handler = {
      onRequestStart() {},
      onResponseStart() {},
      onResponseData() {},
      onResponseEnd: next,
      onResponseError(_controller, error) {
        throw error;
      },
    };
    pool.dispatch({ method: 'POST', path: '/events', headers, body }, handler);
  });
  const used = await timed(() => drive(senders));
  await pool.close();
  return used;
}

async function timed(work) {
  const from = performance.now();
  const cpu = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { us: (user + system) / requests, perS: (requests * 1000) / (performance.now() - from) };
}

const ceiling = await startPeer('uWebSockets.js', 'ceiling.js', [], {});
try {
  const clients = { 'own connection': ours, 'undici Pool.dispatch': undici };
  const runs = Object.fromEntries(Object.keys(clients).map((name) => [name, []]));
  for (let run = 0; run <= Number(values.runs); run += 1) {
    for (const [name, client] of Object.entries(clients)) {
      const used = await client(ceiling.url);
      // The first warms the compiler.
      if (run > 0) runs[name].push(used);
    }
  }
  console.table(
    Object.entries(runs).map(([client, all]) => ({
      client,
      'CPU µs a request': median(all.map((run) => run.us)).toFixed(1),
      'requests/s': Math.round(median(all.map((run) => run.perS))),
    })),
  );
} finally {
  await ceiling.stop();
}
