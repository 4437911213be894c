import { DRAIN_FAULTS } from '../support/faults/drains.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(DRAIN_FAULTS);
