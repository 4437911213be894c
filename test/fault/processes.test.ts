import { PROCESS_FAULTS } from '../support/faults/processes.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(PROCESS_FAULTS);
