import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { HttpResponse } from 'uWebSockets.js';
import { type PendingRequest, Requests, type WorkingEncoder } from '../../../src/main/requests.js';
import { tries } from '../../support/property.js';

const response = (): HttpResponse => ({}) as unknown as HttpResponse;

const step = fc.oneof(
  fc.constant({ kind: 'add' as const }),
  fc.record({ kind: fc.constant('remove' as const), which: fc.nat() }),
  fc.record({ kind: fc.constant('removeAgain' as const), which: fc.nat() }),
  fc.record({ kind: fc.constant('grow' as const), which: fc.nat(), bytes: fc.nat(1000) }),
  fc.record({ kind: fc.constant('assign' as const), which: fc.nat(), encoder: fc.nat(2) }),
);

test('a number is one request’s until that is removed, and requests and bytes are counted exactly', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const requests = new Requests();
      const encoders = Array.from({ length: 3 }, () => ({ bulkDone: () => undefined }));
      const open: { request: PendingRequest; res: HttpResponse; bytes: number; encoder: WorkingEncoder | undefined }[] =
        [];
      const gone: PendingRequest[] = [];
      let most = 0;
      for (const action of steps) {
        const chosen = action.kind === 'add' ? undefined : open[action.which % Math.max(1, open.length)];
        if (action.kind === 'add') {
          const res = response();
          open.push({ request: requests.add(res, 1, undefined), res, bytes: 0, encoder: undefined });
        } else if (action.kind === 'removeAgain') {
          const again = gone[action.which % Math.max(1, gone.length)];
          if (again !== undefined && !open.some(({ request }) => request === again)) requests.remove(again);
        } else if (chosen === undefined) {
          continue;
        } else if (action.kind === 'remove') {
          requests.remove(chosen.request);
          assert.equal(chosen.request.closed, true);
          gone.push(...open.splice(open.indexOf(chosen), 1).map(({ request }) => request));
        } else if (action.kind === 'grow') {
          requests.grow(chosen.request, action.bytes);
          chosen.bytes += action.bytes;
        } else {
          chosen.encoder = encoders[action.encoder];
          chosen.request.encoder = chosen.encoder;
        }
        most = Math.max(most, open.length);
        assert.equal(requests.open, open.length);
        assert.equal(
          requests.bytes,
          open.reduce((sum, { bytes }) => sum + bytes, 0),
        );
        assert.equal(new Set(open.map(({ request }) => request.number)).size, open.length);
        for (const { request, res, bytes } of open) {
          assert.ok(
            requests.get(request.number) === request &&
              request.res === res &&
              !request.closed &&
              request.bodyBytes === bytes,
          );
          assert.ok(request.number < most, 'numbers do not grow beyond the requests that were open at once');
        }
        for (const encoder of encoders) {
          const expected = open.filter((each) => each.encoder === encoder).map(({ request }) => request.number);
          assert.deepEqual(
            requests
              .of(encoder)
              .map(({ number }) => number)
              .toSorted((a, b) => a - b),
            expected.toSorted((a, b) => a - b),
          );
        }
      }
    }),
    tries(200),
  );
});
