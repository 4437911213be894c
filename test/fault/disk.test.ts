import { DISK_FAULTS } from '../support/faults/disk.js';
import { faultTests } from '../support/faults/tests.js';

faultTests(DISK_FAULTS);
