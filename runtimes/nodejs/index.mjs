// Starts the vendor's client. Its path is the original platform's, as functions and their wrapper scripts see it as
// the program of their process.

import './records.mjs';
import './packages.mjs';
import * as client from './client/index.mjs';

// Version 4 starts when it is imported.
await client.run?.(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
