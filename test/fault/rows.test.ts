import { ROW_FAULTS } from '../support/faults/rows.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(ROW_FAULTS);
