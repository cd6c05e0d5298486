//! `POST /lease`: an event goes in, the answer comes out; 409 with a refusal if it never started.
//!
//! The gateway's `instance` writes requests, the supervisor's `control_api` answers them. Nothing
//! here decides whether a lease is taken: that is `core::instance`.

pub const LEASE_PATH: &str = "/lease";

/// On a lease: the invocation's request id.
pub const REQUEST_ID: &str = "pilotlight-request-id";
/// On a lease: `1` if the answer shall bring the log's last 4 KB; on the answer: these, base64.
pub const LOG_TAIL: &str = "pilotlight-log-tail";
/// On an answer: `success` or `function-error`.
pub const OUTCOME: &str = "pilotlight-outcome";
pub const OUTCOME_SUCCESS: &str = "success";
pub const OUTCOME_FUNCTION_ERROR: &str = "function-error";
/// On an instance's first lease: what the cold start took before, as in `Server-Timing`:
/// `queue;dur=0.21, claim;dur=3.4`, in milliseconds. On its answer: what it took in the instance,
/// `unpack;dur=1.02, init;dur=8.4`; the first of these on the answer to a claim too.
pub const PHASES: &str = "pilotlight-phases";
/// On a 409: why the lease never started.
pub const REFUSAL: &str = "pilotlight-refusal";
/// Headers that a lease hands on to the runtime's `next` as they are (contract §1).
pub const CLIENT_CONTEXT: &str = "lambda-runtime-client-context";
pub const FUNCTION_ARN: &str = "lambda-runtime-invoked-function-arn";
pub const TRACE_ID: &str = "lambda-runtime-trace-id";
