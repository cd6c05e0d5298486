// Starts the vendor's client. The file has the same path as on the original platform, because functions and wrapper
// scripts see it as the program of the process.

import './records.mjs';
import './packages.mjs';
import * as client from './client/index.mjs';

// Version 4 of the client has no `run`: it starts when it is imported.
await client.run?.(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
