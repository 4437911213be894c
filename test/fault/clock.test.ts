import { CLOCK_FAULTS } from '../support/faults/clock.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(CLOCK_FAULTS);
