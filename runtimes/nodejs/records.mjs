// Removes the variable if a wrapper has closed the descriptor for records. A wrapper may do so when it starts this
// process as its child. With the variable the client would fail at its first line; without it the client writes to
// standard output.

// No import here, because it would change the order of modules in a process that waited for a claim.
const { fstatSync } = process.getBuiltinModule('node:fs');
const RECORDS = '_LAMBDA_TELEMETRY_LOG_FD';

try {
  if (process.env[RECORDS]) fstatSync(Number(process.env[RECORDS]));
} catch {
  delete process.env[RECORDS];
}
