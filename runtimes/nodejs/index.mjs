// Starts the vendor's client, in the place where the original platform has it: functions and their wrappers
// see this file as the program of their process.

import './records.mjs';
import './packages.mjs';
import * as client from './client/index.mjs';

// Version 4 begins as it is imported.
await client.run?.(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
