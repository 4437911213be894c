import assert from 'node:assert/strict';
import { countAll, countGroups, type EventRow, type Question } from './metrics-model.js';
import { metrics } from './requests.js';
import { type Service, until } from './service.js';
import { DIMENSIONS } from './tally.js';

/** Answers of a running service that come from rollups. */

/** None, one, or two dimensions, in every order. */
export const GROUPINGS: readonly (readonly (typeof DIMENSIONS)[number][])[] = [
  [],
  ...DIMENSIONS.map((dimension) => [dimension]),
  ...DIMENSIONS.flatMap((a) => DIMENSIONS.filter((b) => b !== a).map((b) => [a, b])),
];

const SOURCE = /^penstock_metrics_answers_total\{source="(\w+)",reason="(\w*)"\} (\d+)$/gm;

/** Answers of a process by what they came from: `rollups`, in memory or in ClickHouse, or why from raw rows. */
export async function answerSources(service: Service): Promise<Map<string, number>> {
  const page = await (await fetch(`${service.adminUrl}/metrics`)).text();
  const matches = [...page.matchAll(SOURCE)];
  const sources = new Map<string, number>();
  for (const [, source = '', reason = '', count] of matches) {
    const from = reason !== '' ? reason : source === 'cells' ? 'rollups' : source;
    sources.set(from, (sources.get(from) ?? 0) + Number(count));
  }
  return sources;
}

/** Waits until the rollups have everything that was acknowledged, and answer. */
export async function settledInRollups(service: Service, deadlineMs = 60_000): Promise<void> {
  const from = Date.now() / 1000;
  await until(
    async () => {
      const before = await answerSources(service);
      const { body } = await metrics(service, { event_name: '*' });
      const after = await answerSources(service);
      return after.get('rollups') !== before.get('rollups') && (body.as_of ?? 0) >= from;
    },
    'the rollups have what was acknowledged',
    deadlineMs,
  );
}

/** Each question is answered from rollups, and as these rows say. Nothing else may ask meanwhile. */
export async function assertRollupAnswers(
  service: Service,
  rows: readonly EventRow[],
  questions: readonly Question[],
): Promise<void> {
  const before = await answerSources(service);
  for (const question of questions) {
    const { event_name, from, to, channel, group_by = [] } = question;
    const { text, body } = await metrics(service, {
      event_name,
      ...(from !== undefined && { from: String(from) }),
      ...(to !== undefined && { to: String(to) }),
      ...(channel !== undefined && { channel }),
      ...(group_by.length > 0 && { group_by: group_by.join(',') }),
    });
    const counted =
      group_by.length > 0 ? body.data : { total_events: body.total_events, unique_users: body.unique_users };
    const expected = group_by.length > 0 ? countGroups(rows, question) : countAll(rows, question);
    assert.deepEqual(counted, expected, `${JSON.stringify(question)}: ${text}`);
  }
  const after = await answerSources(service);
  assert.deepEqual(after, new Map(before).set('rollups', (before.get('rollups') ?? 0) + questions.length));
}

/** Every grouping over all events, and once more of a name, of a channel, or of a range that begins and ends within a minute. */
export function questionsAbout(
  names: readonly string[],
  channel: string,
  [from, to]: readonly [number, number],
): Question[] {
  return GROUPINGS.flatMap((group_by, at) => {
    const event_name = names[at % names.length] ?? '*';
    const others = [{ event_name }, { event_name: '*', channel }, { event_name: '*', from, to }, { event_name, from }];
    return [
      { event_name: '*', group_by },
      { event_name: '*', ...others[at % others.length], group_by },
    ];
  });
}
