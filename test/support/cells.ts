import { MessageChannel } from 'node:worker_threads';
import type { ClickHouseClient } from '@clickhouse/client';
import type { CellsAnswer, CellsMiss } from '../../src/shared/cells.js';
import { metricsAnswer } from '../../src/shared/metrics/answer.js';
import type { MetricsQuestion } from '../../src/shared/metrics/parameters.js';
import { Answering } from '../../src/workers/cells/answering.js';
import { CellMirror } from '../../src/workers/cells/mirror.js';
import { RollerPort } from '../../src/workers/cells/roller-port.js';
import { followerAt } from '../../src/workers/roller/follower.js';
import type { Roller } from '../../src/workers/roller/roller.js';

/** The cells thread without a thread: it follows a roller over the same ports. */
export interface TestCells {
  readonly mirror: CellMirror;
  /** What went wrong with loading. */
  readonly failures: unknown[];
  ask(question: MetricsQuestion, asOf: number, timeoutMs: number): Promise<CellsAnswer | CellsMiss>;
  takeBack(body: Uint8Array): void;
  close(): void;
}

export function cellsFollowing(
  roller: Roller,
  client: ClickHouseClient,
  database: string,
  bytesMax = 64 * 1024 * 1024,
): TestCells {
  const mirror = new CellMirror(bytesMax);
  const port = new RollerPort(mirror);
  const { port1, port2 } = new MessageChannel();
  roller.follow(followerAt(port1));
  port.connect(port2);
  const failures: unknown[] = [];
  const answering = new Answering({
    client,
    database,
    mirror,
    bytesMax,
    catchUp: () => port.catchUp(),
    onFailure: (error) => failures.push(error),
    signal: new AbortController().signal,
  });
  return {
    mirror,
    failures,
    async ask(question, asOf, timeoutMs) {
      const answered = await answering.ask(question, timeoutMs);
      if (typeof answered === 'string') return answered;
      return { body: metricsAnswer(question, answered.page, asOf), excepted: answered.excepted };
    },
    // Who still reads it would see that.
    takeBack: (body) => body.fill(0),
    close: () => port.close(),
  };
}
