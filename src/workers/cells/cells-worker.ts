import { type MessagePort, workerData } from 'node:worker_threads';
import type { CellsAsk, CellsMessage, CellsReply } from '../../shared/cells.js';
import { clickHouseReason, createClickHouse } from '../../shared/clickhouse/client.js';
import type { LogLevel } from '../../shared/config.js';
import { createLogger } from '../../shared/log.js';
import { metricsAnswer } from '../../shared/metrics/answer.js';
import { AnswerMemory } from './answer-memory.js';
import { Answering } from './answering.js';
import { CellMirror } from './mirror.js';
import { RollerPort } from './roller-port.js';

/** The cells thread: answers metrics questions out of memory. Nothing durable depends on it. */

export interface CellsWorkerData {
  readonly clickhouse: {
    readonly url: string;
    readonly user: string;
    readonly password: string;
    readonly database: string;
  };
  readonly bytesMax: number;
  readonly logLevel: LogLevel;
  /** Float64: bytes of cells, for whoever scrapes. */
  readonly gauge: SharedArrayBuffer;
  /** CellsMessages from main, CellsReplies to it. */
  readonly port: MessagePort;
}

const REQUEST_TIMEOUT_MS = 60_000;

function run({ clickhouse, bytesMax, gauge, logLevel, port }: CellsWorkerData): void {
  const log = createLogger({ level: logLevel, thread: 'cells' });
  const { database } = clickhouse;
  const client = createClickHouse({ ...clickhouse, requestTimeoutMs: REQUEST_TIMEOUT_MS, maxOpenConnections: 2 });
  const mirror = new CellMirror(bytesMax);
  const bytes = new Float64Array(gauge);
  const stopping = new AbortController();
  const roller = new RollerPort(mirror);
  let failures = 0;
  const onFailure = (error: unknown): void => {
    failures += 1;
    const isWorthALine = (failures & (failures - 1)) === 0 && !stopping.signal.aborted;
    if (isWorthALine)
      log.warn({ failures, reason: clickHouseReason(error) }, 'cells were not loaded; ClickHouse answers');
  };
  const answering = new Answering({
    client,
    database,
    mirror,
    bytesMax,
    catchUp: () => roller.catchUp(),
    onFailure,
    signal: stopping.signal,
  });

  const memory = new AnswerMemory();
  const answer = async ({ id, question, asOf, timeoutMs }: CellsAsk): Promise<void> => {
    const answered = await answering.ask(question, timeoutMs).catch((error: unknown) => {
      onFailure(error);
      return 'failed' as const;
    });
    bytes[0] = mirror.bytes;
    if (typeof answered === 'string') {
      port.postMessage({ id, miss: answered } satisfies CellsReply);
      return;
    }
    const body = metricsAnswer(question, answered.page, asOf, memory.take);
    port.postMessage({ id, answer: { body, excepted: answered.excepted } } satisfies CellsReply, [body.buffer]);
  };

  port.on('message', (message: CellsMessage) => {
    switch (message.type) {
      case 'ask':
        void answer(message.ask);
        return;
      case 'roller':
        roller.connect(message.port);
        return;
      case 'memory':
        memory.giveBack(message.memory);
        return;
      case 'stop':
      default:
        stopping.abort();
        roller.close();
        port.close();
        void client.close();
    }
  });
}

run(workerData as CellsWorkerData);
