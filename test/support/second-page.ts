import type { MetricsQuestion } from '../../src/shared/metrics/parameters.js';

/** A question with everything in it: two groups, a filter, a range, and the page behind a first one. */
export const SECOND_PAGE: MetricsQuestion = {
  eventName: 'a',
  from: 3600,
  to: 7200,
  channel: 'web',
  groupBy: ['hour', 'channel'],
  limit: 2,
  after: [5, 7, 'web'],
};
