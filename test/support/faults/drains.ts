import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { type Service, until } from '../service.js';
import { externally, type Fault, type FaultRun } from './fault-run.js';

/** SIGTERM under load: alone, and behind a load balancer with another instance. */

const HELD = 8;
const DRAIN_MS = 3_000;
/** Of what the process does before and behind the drain. */
const GRACE_MS = 15_000;

/** A request whose head was read, and whose body comes when it is told to. */
class HeldRequest {
  readonly #socket: net.Socket;
  readonly #rest: string;
  readonly answered: Promise<string>;

  constructor(url: string, body: string) {
    const { hostname, port } = new URL(url);
    this.#rest = body.slice(10);
    this.#socket = net.connect(Number(port), hostname);
    this.answered = new Promise((resolve) => {
      let text = '';
      this.#socket.on('data', (data) => (text += String(data)));
      this.#socket.on('error', () => undefined);
      this.#socket.on('close', () => resolve(text));
    });
    this.#socket.write(
      `POST /events HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body.slice(0, 10)}`,
    );
  }

  finish(): void {
    this.#socket.write(this.#rest);
  }
}

async function openRequests(service: Service): Promise<number> {
  const page = await (await fetch(`${service.adminUrl}/metrics`)).text();
  return Number(/^penstock_(?:http_)?(?:requests_open|open_requests)[^ ]* (\d+)/m.exec(page)?.[1] ?? Number.NaN);
}

const drains: Fault = {
  name: 'SIGTERM under load',
  short: { rounds: 1, events: 3_000 },
  long: { rounds: 20, events: 6_000 },
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const dataDir = run.directory();
    const env = { ...externally(clickhouse), PENSTOCK_DRAIN_TIMEOUT_MS: String(DRAIN_MS) };
    let service = await run.start({ dataDir, env });
    for (let round = 0; round < run.rounds; round += 1) {
      run.producer.url = service.url;
      await run.underLoad(async () => {
        const ending = service;
        const held = Array.from({ length: HELD }, (_, at) => {
          // A refused body: nothing that would have to be counted.
          return new HeldRequest(
            ending.url,
            `{"event_name":"","channel":"web","user_id":"held ${at}","timestamp":1700000000}`,
          );
        });
        await until(async () => (await openRequests(ending)) >= HELD, 'the heads of the held requests are read');
        const from = performance.now();
        const code = ending.stop();
        await until(() => ending.lines.some(({ msg }) => msg === 'stopping'), 'the service has noticed');
        // One in two is completed, the other never.
        for (const [at, request] of held.entries()) if (at % 2 === 0) request.finish();
        const texts = await Promise.all(held.map(({ answered }) => answered));
        run.expect((await code) === 0, `SIGTERM ended the process with ${String(await code)}`);
        const took = performance.now() - from;
        run.expect(took < DRAIN_MS + GRACE_MS, `the drain took ${Math.round(took)} ms`);
        for (const [at, text] of texts.entries()) {
          const status = text.slice(9, 12);
          run.expect(status === (at % 2 === 0 ? '400' : '503'), `held request ${at} was answered ${text.slice(0, 80)}`);
        }
        run.producer.url = undefined;
        service = await run.start({ dataDir, env });
        run.producer.url = service.url;
      });
    }
    await run.conclude(service, clickhouse);
  },
};

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Readiness decides (checked by HTTP/1.1: haproxy's default 1.0 is not spoken here), a connection that could not be made goes to the other instance. */
function haproxyConfig(port: number, instances: readonly number[]): string {
  return `
global
  maxconn 2000
defaults
  mode http
  timeout connect 2s
  timeout check 30s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch
  option httpchk
  http-check send meth GET uri /ready ver HTTP/1.1 hdr Host penstock
  default-server check inter 100ms fall 1 rise 1
frontend events
  bind 127.0.0.1:${port}
  http-request return status 200 content-type text/plain lf-string %[nbsrv(penstock)] if { path /instances }
  default_backend penstock
backend penstock
${instances.map((instance, at) => `  server instance${at} 127.0.0.1:${instance}`).join('\n')}
`;
}

/** Whether both are up in the load balancer's eyes: only then may the next one go. */
async function seesBoth(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/instances`).catch(() => undefined);
  return (await answer?.text()) === '2';
}

async function startHaproxy(run: FaultRun, instances: readonly number[]): Promise<string> {
  const port = await freePort();
  const config = path.join(run.directory(), 'haproxy.cfg');
  fs.writeFileSync(config, haproxyConfig(port, instances));
  const haproxy: ChildProcess = spawn('haproxy', ['-db', '-f', config], { stdio: 'ignore' });
  run.cleanUp(async () => {
    haproxy.kill('SIGKILL');
    if (haproxy.exitCode === null && haproxy.signalCode === null) await once(haproxy, 'exit');
  });
  const url = `http://127.0.0.1:${port}`;
  await until(() => seesBoth(url), 'haproxy sees both instances');
  return url;
}

const rolling: Fault = {
  name: 'rolling restart of two instances behind haproxy',
  short: { rounds: 2, events: 3_000 },
  long: { rounds: 16, events: 8_000 },
  missing: () =>
    spawnSync('haproxy', ['-v']).error === undefined ? undefined : 'haproxy is not installed (Debian package haproxy)',
  run: async (run) => {
    const clickhouse = await run.clickhouse();
    const instances = await Promise.all([0, 1].map(async () => ({ dataDir: run.directory(), port: await freePort() })));
    const start = ({ dataDir, port }: { dataDir: string; port: number }): Promise<Service> =>
      run.start({
        dataDir,
        env: { ...externally(clickhouse), PENSTOCK_PORT: String(port), PENSTOCK_DRAIN_DELAY_MS: '1000' },
      });
    const services = await Promise.all(instances.map(start));
    const balancer = await startHaproxy(
      run,
      instances.map(({ port }) => port),
    );
    run.producer.url = balancer;
    for (let round = 0; round < run.rounds; round += 1) {
      await run.underLoad(async () => {
        const at = round % 2;
        const [instance, service] = [instances[at], services[at]];
        if (instance === undefined || service === undefined) return;
        run.expect((await service.stop()) === 0, 'SIGTERM ends the process with 0');
        services[at] = await start(instance);
      });
      await until(() => seesBoth(balancer), 'the instance is back in the eyes of haproxy');
    }
    const refused = [...run.producer.answers].filter(([status]) => status >= 500);
    run.expect(refused.length === 0, `requests failed during the restarts: ${JSON.stringify(refused)}`);
    run.expect(run.producer.unanswered === 0, `${run.producer.unanswered} requests got no answer during the restarts`);
    const [first, second] = services;
    if (first === undefined || second === undefined) return;
    await second.settled();
    await run.conclude(first, clickhouse);
  },
};

export const DRAIN_FAULTS: readonly Fault[] = [drains, rolling];
