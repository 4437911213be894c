import type { MetricsQuestion } from '../../shared/metrics/parameters.js';
import { BUCKET_MS, type CellRead, type Plan, type TimeRange } from '../../shared/metrics/plan.js';
import { planQuestion } from '../../shared/metrics/rollup-statement.js';
import { JOINED_HOURS, type SeriesKey, unitMs } from './cell.js';
import type { Bounds } from './mirror.js';

/** Which cells in memory a question needs. Pure. */

const LEVEL_OF_HOURS = 2;

/** Units of one series: [first, end). */
export interface Need {
  readonly key: SeriesKey;
  readonly first: number;
  readonly end: number;
  /** Of the events of these minutes, those within count. */
  readonly within?: TimeRange;
}

/** What there is outside of the bounds is nothing, and is not read. */
export function needsOf(question: MetricsQuestion, { firstSpan, lastSpan, lastSecond }: Bounds): Need[] {
  // Whatever ends behind the last event ends with whole buckets.
  const isOpen = question.to === undefined || question.to >= lastSecond;
  const plan = planQuestion(isOpen ? { ...question, to: undefined } : question, true);
  const [fromMs, toMs] = [firstSpan * BUCKET_MS[4], (lastSpan + 1) * BUCKET_MS[4]];
  return needsOfPlan(question, plan).flatMap((need) => {
    const size = unitMs(need.key);
    const [first, end] = [Math.max(need.first, fromMs / size), Math.min(need.end, toMs / size)];
    return first < end ? [{ ...need, first, end }] : [];
  });
}

function needsOfPlan(question: MetricsQuestion, { reads, ends }: Plan): Need[] {
  const key = keyOf(question);
  const ofRead = ({ level, first, end }: CellRead): Need[] => {
    const isJoined = level === LEVEL_OF_HOURS && !question.groupBy.includes('hour');
    const runs = isJoined ? joinedHours(first, end) : [{ joined: 1, first, end }];
    return runs.map((run) => ({
      key: { ...key, level, joined: run.joined, events: false },
      first: run.first,
      end: run.end,
    }));
  };
  const ofEnd = (within: TimeRange): Need => ({
    key: { ...key, level: 1, joined: 1, events: true },
    first: Math.floor(within.fromMs / BUCKET_MS[1]),
    end: Math.ceil(within.toMs / BUCKET_MS[1]),
    within,
  });
  return [...reads.flatMap(ofRead), ...ends.map(ofEnd)];
}

interface JoinedHours {
  readonly joined: number;
  readonly first: number;
  readonly end: number;
}

/** The hours [first, end) in few units: of the largest size that there is room for, and what is before and behind these in smaller ones. */
function joinedHours(first: number, end: number, sizes: readonly number[] = JOINED_HOURS): JoinedHours[] {
  if (first >= end) return [];
  const [size, ...smaller] = sizes;
  if (size === undefined) return [{ joined: 1, first, end }];
  const [firstWhole, endWhole] = [Math.ceil(first / size), Math.floor(end / size)];
  if (firstWhole >= endWhole) return joinedHours(first, end, smaller);
  return [
    ...joinedHours(first, firstWhole * size, smaller),
    { joined: size, first: firstWhole, end: endWhole },
    ...joinedHours(endWhole * size, end, smaller),
  ];
}

function keyOf({ eventName, channel, groupBy }: MetricsQuestion): Pick<SeriesKey, 'eventName' | 'channels'> {
  const eachName = groupBy.includes('event_name');
  const eachChannel = channel !== undefined || groupBy.includes('channel');
  return {
    eventName: eventName ?? (eachName ? undefined : ''),
    channels: eachChannel ? 'each' : 'together',
  };
}
