/** One SVG beside each result, drawn by echarts without a browser: bars of what was compared, or lines over rate or time. */
import { writeFileSync } from 'node:fs';
import { init } from 'echarts';

export const WIDTH = 960;
const COLOURS = ['#3366cc', '#e8743b', '#19a979', '#945ecf'];
const OPEN_LOOPS = ['rate', 'ramp', 'soak'];

export function charts(result, path) {
  const isLines = OPEN_LOOPS.includes(result.mode) && result.medians.length > 1;
  draw({ title: titleOf(result), subtext: subtitleOf(result), ...(isLines ? lines(result) : bars(result)) }, path);
}

/** Writes one chart: echarts' `option`, with a title above it. */
export function draw({ title, subtext, option, height }, path) {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  chart.setOption({
    color: COLOURS,
    backgroundColor: '#ffffff',
    animation: false,
    title: { text: title, subtext, left: 10 },
    ...option,
  });
  writeFileSync(path, chart.renderToSVGString());
  chart.dispose();
}

function titleOf({ mode, settings }) {
  return `${mode}: ${settings.endpoint === 'bulk' ? `POST /events/bulk, ${settings.batch} events` : 'POST /events'}, ${settings.connections} connections`;
}

function subtitleOf(result) {
  return `${whereOf(result)} · medians of ${result.settings.runs}`;
}

/** On what a result was measured, in one line. */
export function whereOf({ machine, node, commit }) {
  return `${machine.cpu}, ${machine.cores} cores · Node ${node} · ${commit.slice(0, 7)}`;
}

/** Rate and p50/p99 of each line, and its CPU where it is known. */
function bars({ medians }) {
  const rows = medians.toReversed();
  const panels = [
    { name: 'events/s', series: [['events/s', (row) => Math.round(row.eventsPerS)]] },
    {
      name: 'latency, ms (log)',
      log: true,
      series: [
        ['p50 ms', (row) => row.latencyMs?.p50],
        ['p99 ms', (row) => row.latencyMs?.p99],
      ],
    },
    { name: 'CPU µs an event', series: [['service µs/event', (row) => row.cpuUs.perEvent]] },
  ];
  const left = 300;
  const width = (WIDTH - left - 20) / panels.length;
  const height = 140 + rows.length * 52;
  const option = {
    legend: { bottom: 8 },
    grid: panels.map((_, i) => ({ left: left + i * width, width: width - 30, top: 80, bottom: 70 })),
    xAxis: panels.map(({ name, log }, i) => ({
      gridIndex: i,
      type: log ? 'log' : 'value',
      name,
      nameLocation: 'middle',
      nameGap: 26,
      splitNumber: 3,
      axisLabel: { hideOverlap: true },
    })),
    yAxis: panels.map((_, i) => ({
      gridIndex: i,
      type: 'category',
      data: rows.map((row) => row.label),
      axisLabel: i === 0 ? { width: left - 30, overflow: 'break' } : { show: false },
    })),
    series: panels.flatMap(({ series }, i) =>
      series.map(([name, of]) => ({
        name,
        type: 'bar',
        xAxisIndex: i,
        yAxisIndex: i,
        label: {
          show: true,
          formatter: ({ value }) => short(value),
          position: 'insideLeft',
          color: '#ffffff',
          textBorderColor: '#333333',
          textBorderWidth: 2,
        },
        data: rows.map((row) => of(row) ?? null),
      })),
    ),
  };
  return { option, height };
}

/** p50, p99 over the offered rate; over time where phases follow one another. */
function lines({ mode, medians }) {
  const byRate = mode === 'rate';
  const rows = byRate ? medians.toSorted((a, b) => a.offeredPerS - b.offeredPerS) : medians;
  const data = (of) => rows.map((row) => of(row) ?? null);
  const line = (name, of, yAxisIndex = 0) => ({ name, type: 'line', yAxisIndex, data: data(of) });
  const option = {
    legend: { bottom: 8 },
    grid: { left: 70, right: 80, top: 90, bottom: 90 },
    xAxis: {
      type: 'category',
      data: rows.map((row) => (byRate ? `${row.offeredPerS}/s` : row.label.replace(/^[^:]*: /, ''))),
      name: byRate ? 'requests offered' : '',
      nameLocation: 'middle',
      nameGap: 28,
    },
    yAxis: [
      { type: 'log', name: 'ms (log)' },
      { type: 'value', name: mode === 'soak' ? 'MiB' : 'events/s', splitLine: { show: false } },
    ],
    series: [
      line('p50 ms', (row) => row.latencyMs?.p50),
      line('p99 ms', (row) => row.latencyMs?.p99),
      mode === 'soak'
        ? line('memory MiB', (row) => row.memoryMiB?.now, 1)
        : line('events/s', (row) => Math.round(row.eventsPerS), 1),
    ],
  };
  return { option, height: 480 };
}

/** Three digits are what the figures are good for. */
export function short(value) {
  if (typeof value !== 'number') return '';
  return value >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
}
