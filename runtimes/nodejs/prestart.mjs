// Starts in an unclaimed instance in the place of `index.mjs`: `wait.mjs` returns when this process is
// the function's. All that is imported here is compiled and linked before any of it runs, so that the
// client is ready then, and begins in the order of these lines.

import './wait.mjs';
import './index.mjs';
