import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Dimension } from '../../../../src/shared/metrics/parameters.js';
import { needsOf } from '../../../../src/workers/cells/needs.js';
import { tries } from '../../../support/property.js';

const DAY = 86_400;
const SPAN = 5 * DAY;

test('the ends of a range are few sets of users: joined hours where they are not asked for one by one', () => {
  const bounds = { firstSpan: 0, lastSpan: 10, lastSecond: 11 * SPAN };
  const asked = { eventName: 'a', channel: undefined, limit: 10, after: undefined };
  fc.assert(
    fc.property(fc.nat(20 * DAY), fc.nat(30 * DAY), fc.boolean(), (from, length, byHour) => {
      const groupBy: Dimension[] = byHour ? ['hour', 'channel'] : ['channel'];
      const needs = needsOf({ ...asked, groupBy, from, to: from + length }, bounds);
      const hours = needs.filter(({ key }) => key.level === 2);
      const unitsOf = (joined: number): number =>
        hours.filter(({ key }) => key.joined === joined).reduce((sum, { first, end }) => sum + end - first, 0);
      const inHours = Math.floor((from + length + 1) / 3_600) - Math.ceil(from / 3_600);
      if (byHour) assert.equal(unitsOf(1), Math.max(0, inHours));
      else {
        const units = [12, 6, 3, 1].map(unitsOf);
        assert.ok(
          units.every((count, i) => count <= (i === 3 ? 4 : 2)),
          units.join(' '),
        );
      }
    }),
    tries<[number, number, boolean]>(300),
  );
});
