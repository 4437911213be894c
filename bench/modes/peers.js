/**
 * peers: Penstock and others, in turn, so that a machine that changes its mind changes it for all. All insert into the one ClickHouse, the
 * one embedded in Penstock; each starts for its turn and ends after it, except Penstock, which idles in the others' turns.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { measure, planOf } from '../harness/measure.js';
import { startPeer } from '../harness/service.js';
import { storedRows } from '../harness/verify.js';
import { toolsOf } from './closed.js';

const STORED_MS = 60_000;

const PEERS = [
  { name: 'Fastify + Ajv, in memory (not durable)', file: 'fastify.js', args: [], table: 'peer_memory' },
  { name: 'Fastify + Ajv, write and fsync a request', file: 'fastify.js', args: ['--sync'], table: 'peer_sync' },
  { name: 'uWebSockets.js, 202 to nothing', file: 'ceiling.js', args: [] },
];

export async function peers({ options, service, record, note }) {
  for (let run = 1; run <= options.runs; run += 1) {
    for (const tool of toolsOf(options)) {
      const of = (url) =>
        planOf(options, url, [{ name: 'peers', seconds: options.durationS, rate: 0 }], { minimal: true });
      const suffix = options.tool === 'both' ? ` (${tool})` : '';
      const turns = [undefined, ...PEERS].map((peer) => async () => {
        if (peer === undefined) {
          record(await measure(service, of(service.url), { label: `Penstock, durable${suffix}`, run, tool }));
          return;
        }
        const started = await startPeer(peer.name, peer.file, peer.args, {
          clickhouse: service.clickhouse,
          dataRoot: options.dataRoot,
          children: service.children,
        });
        try {
          const verify =
            peer.table === undefined ? nothing : (each, result) => stored(each.clickhouse, peer.table, result);
          record(await measure(started, of(started.url), { label: peer.name + suffix, run, tool, verify }));
        } finally {
          await started.stop();
        }
      });
      // Each round begins with another, so that none is always first or always after the same.
      const from = (run - 1) % turns.length;
      for (const turn of [...turns.slice(from), ...turns.slice(0, from)]) await turn();
    }
  }
  note({ tool: toolsOf(options).join(', ') });
}

async function nothing(_service, { expected }) {
  return { exact: null, acknowledged: expected.acknowledged };
}

/** What a peer accepted must be in ClickHouse when it has flushed; otherwise it was not measured doing its work. */
async function stored(clickhouse, table, { names, expected: { acknowledged, unanswered } }) {
  const from = performance.now();
  for (;;) {
    const { events } = await storedRows(clickhouse, table, names);
    const exact = events >= acknowledged && events <= acknowledged + unanswered;
    if (exact || performance.now() - from > STORED_MS) return { exact, acknowledged, unanswered, inClickHouse: events };
    await sleep(250);
  }
}
