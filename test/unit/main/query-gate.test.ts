import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { QueryGate } from '../../../src/main/query-gate.js';
import { RequestError } from '../../../src/shared/errors.js';

interface Pending {
  readonly done: Promise<unknown>;
  readonly finish: () => void;
  readonly started: () => boolean;
}

function submit(gate: QueryGate, signal: AbortSignal = new AbortController().signal): Pending {
  let finish: () => void = () => undefined;
  let hasStarted = false;
  const end = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const done = gate.run(signal, () => {
    hasStarted = true;
    return end;
  });
  done.catch(() => undefined);
  return { done, finish, started: () => hasStarted };
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test('queries beyond the concurrency wait in order, and one enters for each that ends', async () => {
  const gate = new QueryGate({ concurrency: 2, queueMax: 3, waitMaxMs: 60_000 });
  const queries = [1, 2, 3, 4, 5].map(() => submit(gate));
  await turn();
  assert.deepEqual(
    queries.map((query) => query.started()),
    [true, true, false, false, false],
  );
  queries[1]?.finish();
  await turn();
  assert.deepEqual(
    queries.map((query) => query.started()),
    [true, true, true, false, false],
  );
  for (const query of queries) query.finish();
  await Promise.all(queries.map((query) => query.done));
  assert.deepEqual([gate.running, gate.waiting], [0, 0]);
});

test('a query beyond the queue is refused as overloaded, with a wait that grows with what is ahead', async () => {
  const waits = [];
  for (const queueMax of [0, 20]) {
    const gate = new QueryGate({ concurrency: 1, queueMax, waitMaxMs: 60_000 });
    const held = Array.from({ length: 1 + queueMax }, () => submit(gate));
    const error = await submit(gate).done.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof RequestError);
    assert.equal(error.code, 'overloaded');
    waits.push(error.retryAfterS ?? 0);
    for (const query of held) query.finish();
    await Promise.all(held.map((query) => query.done));
  }
  assert.ok((waits[0] ?? 0) >= 1 && (waits[1] ?? 0) > (waits[0] ?? 0), waits.join(', '));
});

test('a query that waits too long is refused and leaves the queue', async () => {
  const gate = new QueryGate({ concurrency: 1, queueMax: 1, waitMaxMs: 5 });
  const first = submit(gate);
  const second = submit(gate);
  await assert.rejects(second.done, { code: 'overloaded' });
  assert.equal(second.started(), false);
  assert.equal(gate.waiting, 0);
  first.finish();
  await first.done;
  assert.equal(gate.running, 0);
});

test('a query whose client is gone leaves the queue without running', async () => {
  const gate = new QueryGate({ concurrency: 1, queueMax: 2, waitMaxMs: 60_000 });
  const first = submit(gate);
  const hungUp = new AbortController();
  const second = submit(gate, hungUp.signal);
  const third = submit(gate);
  hungUp.abort();
  await assert.rejects(second.done, { name: 'AbortError' });
  first.finish();
  third.finish();
  await Promise.all([first.done, third.done]);
  assert.deepEqual([second.started(), gate.running, gate.waiting], [false, 0, 0]);
});

test('a query that fails gives its place on', async () => {
  const gate = new QueryGate({ concurrency: 1, queueMax: 1, waitMaxMs: 60_000 });
  const { signal } = new AbortController();
  await assert.rejects(
    gate.run(signal, () => Promise.reject(new Error('no'))),
    /no/,
  );
  assert.equal(await gate.run(signal, () => Promise.resolve('yes')), 'yes');
  assert.equal(gate.running, 0);
});

test('whatever is asked, ended and abandoned, the bounds hold and no place is lost', async () => {
  const step = fc.record({ kind: fc.constantFrom('ask', 'ask', 'finish', 'abandon'), which: fc.nat(20) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const gate = new QueryGate({ concurrency: 2, queueMax: 3, waitMaxMs: 60_000 });
      const asked: (Pending & { abort: AbortController })[] = [];
      for (const { kind, which } of steps) {
        const chosen = asked[which % Math.max(1, asked.length)];
        if (kind === 'ask') {
          const abort = new AbortController();
          asked.push({ ...submit(gate, abort.signal), abort });
        } else if (kind === 'finish') chosen?.finish();
        else chosen?.abort.abort();
        await turn();
        assert.ok(gate.running <= 2 && gate.waiting <= 3);
        assert.ok(gate.waiting === 0 || gate.running === 2);
      }
      for (const query of asked) query.finish();
      await Promise.allSettled(asked.map((query) => query.done));
      assert.deepEqual([gate.running, gate.waiting], [0, 0]);
    }),
    { numRuns: 50 },
  );
});
