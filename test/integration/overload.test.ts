import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { HttpConnection } from '../support/http-connection.js';
import { event, send } from '../support/requests.js';
import { Service, until } from '../support/service.js';
import { requestBytes, Wire } from '../support/wire.js';

/** What is beyond the limits is refused, and no faster than leaves the processor to those that are let in. */

/** As in held-refusals.ts, where nothing is answered. */
const REFUSALS_PER_S = 500;
const BURST = 50;
const BODY = JSON.stringify(event());

let service: Service;
let occupant: Wire;
beforeEach(async () => {
  service = await Service.start({ env: { PENSTOCK_IN_FLIGHT_MAX_REQUESTS: '1', PENSTOCK_DRAIN_TIMEOUT_MS: '1000' } });
  // All there is room for, until it is complete.
  occupant = await Wire.connect(service.url);
  occupant.write(requestBytes('POST', '/events', { body: BODY }).subarray(0, -1));
  await until(async () => (await metric('penstock_requests_open')) === 1, 'the only place is taken');
});
afterEach(async () => {
  await occupant.end();
  await service.dispose();
});

async function metric(name: string): Promise<number> {
  const { text } = await send(`${service.adminUrl}/metrics`);
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}

test('clients that try again at once are refused no faster than a bounded rate, and all are served when there is room', async () => {
  const CLIENTS = 100;
  const SECONDS = 3;
  const statuses = new Map<number, number>();
  const from = performance.now();
  const elapsedS = (): number => (performance.now() - from) / 1000;
  let refusedInS = 0;
  const client = async (): Promise<void> => {
    const connection = new HttpConnection();
    for (let status = 0; status !== 202;) {
      const answer = await connection.request(service.url, '/events', '', BODY);
      ({ status } = answer);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (status === 503) assert.ok(answer.retryAfterS >= 1);
      if (elapsedS() < SECONDS) refusedInS = elapsedS();
      else if (openedAt === undefined) {
        openedAt = statuses.get(503) ?? 0;
        occupant.write(BODY.slice(-1));
      }
    }
    connection.close();
  };
  let openedAt: number | undefined;
  await Promise.all(Array.from({ length: CLIENTS }, client));
  assert.equal(statuses.get(202), CLIENTS);
  assert.ok(openedAt !== undefined && openedAt > CLIENTS, `${openedAt} refusals`);
  assert.ok(openedAt <= refusedInS * REFUSALS_PER_S + BURST + CLIENTS, `${openedAt} refusals in ${refusedInS} s`);
  assert.deepEqual(
    [...statuses.keys()].toSorted((a, b) => a - b),
    [202, 503],
  );
});

test('refusals that are held are sent when the process ends', async () => {
  const CLIENTS = 1_500;
  const wires = await Promise.all(Array.from({ length: CLIENTS }, () => Wire.connect(service.url)));
  const request = requestBytes('POST', '/events', { body: BODY });
  for (const wire of wires) wire.write(request);
  await until(
    async () => (await metric('penstock_requests_refused_total{code="overloaded"}')) === CLIENTS,
    'all are refused',
  );
  service.signal('SIGTERM');
  const answers = await Promise.all(wires.map((wire) => wire.answer()));
  for (const { status, headers } of answers) {
    assert.equal(status, 503);
    assert.match(headers.get('retry-after') ?? '', /^[1-9]\d*$/);
  }
  for (const wire of wires) await wire.end();
  assert.equal(await service.exited, 0);
});
