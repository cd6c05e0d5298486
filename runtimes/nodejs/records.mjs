// Removes the variable if a wrapper has closed the descriptor for records, as it may when it starts this process as
// its child. With it the client would fail at its first line; without it the client writes to standard output.

// Without an import: a process that waited would have loaded modules in another order.
const { fstatSync } = process.getBuiltinModule('node:fs');
const RECORDS = '_LAMBDA_TELEMETRY_LOG_FD';

try {
  if (process.env[RECORDS]) fstatSync(Number(process.env[RECORDS]));
} catch {
  delete process.env[RECORDS];
}
