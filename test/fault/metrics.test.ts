import { METRICS_FAULTS } from '../support/faults/metrics.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(METRICS_FAULTS);
