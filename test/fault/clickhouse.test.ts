import { CLICKHOUSE_FAULTS } from '../support/faults/clickhouse.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(CLICKHOUSE_FAULTS);
