/** The table for people, and the chart. */
import { round } from '../harness/load.js';
import { tableText } from '../harness/report.js';
import { isPenstock } from './systems.js';

const BAR_PX = 13;

function systemsOf({ samples }) {
  return [...new Set(samples.map(({ system }) => system))];
}

function labelsOf({ samples }) {
  return [...new Set(samples.map(({ label }) => label))];
}

function sampleIn({ samples }, label, system) {
  return samples.find((sample) => sample.label === label && sample.system === system);
}

/** Three digits are what the figures are good for. */
function ms(value) {
  if (value === undefined) return undefined;
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

export function printQueries(result) {
  const systems = systemsOf(result);
  // What stands beside the quiet one: the same Penstock under load, or another with other rows.
  const other = systems.find((system) => isPenstock(system) && system !== 'penstock');
  const head = ['p50 / p95 ms', ...systems, ...(other === undefined ? [] : [`${other} ÷ penstock`])];
  const rows = labelsOf(result).map((label) => {
    const of = (system) => sampleIn(result, label, system);
    const cells = systems.map((system) => {
      const sample = of(system);
      return sample?.p50 === undefined ? undefined : `${ms(sample.p50)} / ${ms(sample.p95)}`;
    });
    const [quiet, beside] = [of('penstock')?.p50, other === undefined ? undefined : of(other)?.p50];
    const ratio = quiet === undefined || beside === undefined ? undefined : round(beside / quiet, 2);
    return [label, ...cells, ...(other === undefined ? [] : [ratio])];
  });
  console.log(`\n${tableText(head, rows)}`);
  printOffPeers(result);
  printSizes(result);
  console.log(
    `rolled up ${result.rollup.events} events in ${result.rollup.seconds} s (service ${result.rollup.serviceCores} cores, ClickHouse ${result.rollup.clickhouseCores})`,
  );
  if (result.live !== null) printLive(result.live);
  const ours = result.verification.filter(({ system }) => isPenstock(system));
  const wrong = ours.filter(({ exact }) => !exact);
  console.log(
    wrong.length === 0
      ? `verified: ${ours.length} answers equal a DISTINCT over the raw rows`
      : `NOT EXACT: ${wrong.length} of ${ours.length} answers`,
  );
}

/** How wrong the others are at most. */
function printOffPeers({ verification }) {
  for (const system of new Set(verification.map((each) => each.system))) {
    if (isPenstock(system)) continue;
    const own = verification.filter((each) => each.system === system);
    const wrong = own.filter(({ exact, failed }) => !exact && !failed).length;
    const worst = Math.max(0, ...own.map(({ excess }) => Math.abs(excess ?? 0)));
    const failed = own.filter((each) => each.failed).length;
    console.log(
      `${system}: ${wrong} of ${own.length} answers not exact, events off by up to ${round(worst * 100, 3)} %${failed > 0 ? `; ${failed} without an answer` : ''}`,
    );
  }
}

function printSizes({ sizes }) {
  const rows = sizes.map(({ name, MiB, rows: count, parts }) => [name, MiB, count, parts]);
  console.log(`\n${tableText(['table', 'MiB', 'rows', 'parts'], rows)}\n`);
}

function printLive({ costs, asOfLagS, producer }) {
  const threads = [...new Set(Object.values(costs).flatMap(({ threadsCores }) => Object.keys(threadsCores)))];
  const rows = Object.entries(costs).map(([name, each]) => [
    name === 'alone' ? 'receiving and rolling up' : 'the same with questions',
    each.eventsPerS,
    each.serviceCores,
    each.clickhouseCores,
    each.cpuUsPerEvent,
    ...threads.map((thread) => each.threadsCores[thread]),
  ]);
  console.log(tableText(['CPU, cores', 'events/s', 'service', 'ClickHouse', 'µs/event', ...threads], rows));
  console.log(
    `answers were as of ${asOfLagS?.p50} s before (p95 ${asOfLagS?.p95} s); ${producer.acknowledged} events acknowledged, ${producer.repeated} sent again, ${producer.behind} not sent in time, ${producer.refusals} bodies refused at first`,
  );
}

/** p50 of everything, on a logarithmic axis: milliseconds and seconds are in one picture. */
export async function drawQueries(result, path) {
  const { draw, short, whereOf, WIDTH } = await import('../harness/charts.js');
  const present = systemsOf(result);
  const systems = Object.keys(COLOURS).filter((system) => present.includes(system));
  const labels = labelsOf(result).toReversed();
  const left = 280;
  const series = systems.map((system) => ({
    name: system,
    type: 'bar',
    barCategoryGap: '25%',
    barGap: '10%',
    itemStyle: { color: COLOURS[system] },
    label: { show: true, position: 'right', fontSize: 10, formatter: ({ value }) => short(value) },
    data: labels.map((label) => sampleIn(result, label, system)?.p50 ?? null),
  }));
  const option = {
    legend: { bottom: 8, data: systems },
    grid: { left, width: WIDTH - left - 70, top: 70, bottom: 80 },
    xAxis: { type: 'log', name: 'p50, ms (log)', nameLocation: 'middle', nameGap: 26 },
    yAxis: { type: 'category', data: labels, axisLabel: { width: left - 20, overflow: 'break' } },
    series,
  };
  const height = 160 + labels.length * (systems.length * BAR_PX + 10);
  const title = `GET /metrics, ${result.dataset.rows.toLocaleString('en')} events of 30 days`;
  draw({ title, subtext: `${whereOf(result)} · medians of up to ${result.settings.runs}`, option, height }, path);
}

const COLOURS = {
  penstock: '#3366cc',
  'penstock, live': '#7ea3e6',
  plain: '#e8743b',
  'plain FINAL': '#945ecf',
  PostgreSQL: '#19a979',
};
