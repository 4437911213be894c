import { INSTANCE_FAULTS } from '../support/faults/instances.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(INSTANCE_FAULTS);
