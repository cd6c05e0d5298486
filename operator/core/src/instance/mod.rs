//! What happens inside one instance: one runtime process, one lease, one event at a time (rule 1).
//!
//! This file has the events that the supervisor reports and the actions that it has to carry out;
//! `machine` decides what follows from an event. `failure` has the error types and messages, `launch` how
//! the runtime process is started, `memory` who enforces its memory limit, `phases` the parts of a cold
//! start, `prestart` and `following` the life of an instance of a warm pool. Nothing here sees a payload.
//! The gateway's side of the same lease is `crate::invoke::pool`.

pub mod failure;
pub mod following;
pub mod launch;
mod machine;
pub mod memory;
pub mod phases;
pub mod prestart;

use std::sync::Arc;
use std::time::{Duration, Instant};

use failure::{Exit, Failure, PAYLOAD_LIMIT};

pub use machine::Machine;

/// Names one invocation, from the gateway's answer header to the log lines.
pub type RequestId = Arc<str>;

/// An init that takes longer runs again within the first invocation (contract §3).
pub const INIT_LIMIT: Duration = Duration::from_secs(10);
/// Between the polite and the final signal at shutdown (contract §3: 300 ms – 2 s).
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// What the instance can do for a gateway. Pushed to gateways when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The runtime process is starting, or starting again: no lease yet.
    Starting,
    /// A lease is welcome (or one is held, and the next will be).
    Ready,
    /// No further lease, ever: the instance ends.
    Draining,
}

/// A condition with its place in the order of changes; an older epoch is never news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub epoch: u64,
    pub condition: Condition,
}

/// What the runtime process or a gateway did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The supervisor is up: start the runtime.
    Boot,
    /// A gateway hands over one invocation.
    Lease { request_id: RequestId },
    /// `GET /runtime/invocation/next`.
    Next,
    /// `POST /runtime/invocation/{id}/response`, complete.
    Response { request_id: RequestId, bytes: usize },
    /// `POST /runtime/invocation/{id}/error`.
    Error { request_id: RequestId },
    /// `POST /runtime/init/error`.
    InitError,
    /// The runtime process is gone, with all its output read.
    Exited(Exit),
    /// The runtime process is gone: the kernel has killed it because its control group was full.
    KilledForMemory,
    /// There is no runtime process: its program cannot be started.
    NotStarted,
    /// The runtime process uses more memory than the function has, and the kernel does not enforce that.
    MemoryExceeded,
    /// End when the work at hand is done.
    Drain,
}

/// Why an event was not accepted. The lease variants mean: provably never started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("busy, not started: the instance runs another invocation")]
    Busy,
    #[error("starting, not started: the runtime process is not ready")]
    Starting,
    #[error("draining, not started: the instance takes no further invocations")]
    Draining,
    #[error("the runtime process may not make this call in its present state")]
    InvalidState,
    #[error("the request id is not that of the invocation at hand")]
    InvalidRequestId,
    #[error("the response is larger than {PAYLOAD_LIMIT} bytes")]
    ResponseTooLarge,
}

/// What the supervisor has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    StartRuntime,
    /// Hand the leased event to the runtime's waiting `next`.
    Deliver {
        request_id: RequestId,
        deadline: Instant,
    },
    /// Give the gateway the answer: the runtime's body, or that of a failure.
    Answer {
        request_id: RequestId,
        outcome: Outcome,
        /// Of the init that this is the first answer after.
        init: Option<Duration>,
    },
    /// The accepted lease never started; the gateway may try elsewhere.
    Release {
        request_id: RequestId,
    },
    Log(LogLine),
    /// SIGTERM to the process group.
    Terminate,
    /// SIGKILL to the process group.
    Kill,
    /// Nothing is left to do; end the supervisor.
    Shutdown,
}

/// Whose body answers the invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The runtime's response.
    Success,
    /// The runtime's error body.
    FunctionError,
    /// The body words this failure.
    Failed(Failure),
}

/// The platform's lines in the function's log (contract §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLine {
    InitStart,
    /// Only for an init that failed.
    InitReport {
        duration: Duration,
        failure: Failure,
        in_invocation: bool,
    },
    Start {
        request_id: RequestId,
    },
    /// Why the runtime process could not start: for [`Failure::InvalidEntrypoint`].
    NotStarted {
        request_id: RequestId,
    },
    TimedOut {
        request_id: RequestId,
        after: Duration,
    },
    End {
        request_id: RequestId,
    },
    Report {
        request_id: RequestId,
        duration: Duration,
        init: Option<Duration>,
        failure: Option<Failure>,
    },
}
