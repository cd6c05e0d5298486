// A wrapper that starts this process as its child may have closed the descriptor for records. The client would
// fail at its first line then; without the variable it writes to standard output.

// Without an import: a process that waited would have loaded modules in another order.
const { fstatSync } = process.getBuiltinModule('node:fs');
const RECORDS = '_LAMBDA_TELEMETRY_LOG_FD';

try {
  if (process.env[RECORDS]) fstatSync(Number(process.env[RECORDS]));
} catch {
  delete process.env[RECORDS];
}
