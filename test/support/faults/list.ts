import { CLICKHOUSE_FAULTS } from './clickhouse.js';
import { CLOCK_FAULTS } from './clock.js';
import { DISK_FAULTS } from './disk.js';
import { DRAIN_FAULTS } from './drains.js';
import type { Fault } from './fault-run.js';
import { INSTANCE_FAULTS } from './instances.js';
import { METRICS_FAULTS } from './metrics.js';
import { PROCESS_FAULTS } from './processes.js';
import { ROW_FAULTS } from './rows.js';

/** Every fault of the suite: `npm test` runs the short form of each, `npm run test:fault` the long one. */
export const FAULTS: readonly Fault[] = [
  ...PROCESS_FAULTS,
  ...CLICKHOUSE_FAULTS,
  ...DISK_FAULTS,
  ...CLOCK_FAULTS,
  ...DRAIN_FAULTS,
  ...INSTANCE_FAULTS,
  ...METRICS_FAULTS,
  ...ROW_FAULTS,
];
