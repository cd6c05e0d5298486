// The program of an unclaimed instance, instead of `index.mjs`. `wait.mjs` returns after the claim. Node.js compiles
// and links all imports before it runs the first one, so the client is ready by then. The order of these lines is the
// order in which they run: `wait.mjs` must be first.

import './wait.mjs';
import './index.mjs';
