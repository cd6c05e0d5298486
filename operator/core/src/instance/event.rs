//! The events and actions of one instance: what the supervisor and the machine say to each other.
//!
//! The supervisor reports an [`Event`], `machine` refuses it or answers with an [`Action`]. Gateways get the
//! [`Status`]. Nothing here decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::{Exit, Failure, PAYLOAD_LIMIT};

/// The id of one invocation, in the gateway's response header and in the log lines.
pub type RequestId = Arc<str>;

/// The longest init outside an invocation. One that takes longer runs again within the first invocation
/// (contract §3).
pub const INIT_LIMIT: Duration = Duration::from_secs(10);
/// The time between SIGTERM and SIGKILL at shutdown (contract §3: 300 ms – 2 s).
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// Whether the instance takes leases. The supervisor pushes each change to the gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The runtime process is starting, for the first time or again. The instance takes no lease yet.
    Starting,
    /// The instance takes a lease, or has one and takes the next after it.
    Ready,
    /// The instance takes no further lease and ends.
    Draining,
}

/// A condition with its place in the order of changes. Receivers ignore a status whose epoch is not
/// higher than the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub epoch: u64,
    pub condition: Condition,
}

/// An event that the supervisor reports: something that the runtime process or a gateway did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The supervisor is up, and starts the runtime process.
    Boot,
    /// A gateway sends one invocation.
    Lease { request_id: RequestId },
    /// `GET /runtime/invocation/next`.
    Next,
    /// `POST /runtime/invocation/{id}/response`, complete.
    Response { request_id: RequestId, bytes: usize },
    /// `POST /runtime/invocation/{id}/response`: the head of a streamed response has come.
    Began { request_id: RequestId },
    /// The streamed response that began is complete.
    Ended { request_id: RequestId, bytes: usize },
    /// The connection broke within the streamed response. What follows decides the outcome: an error that the
    /// runtime posts, the exit of its process, or the timeout.
    Aborted { request_id: RequestId },
    /// `POST /runtime/invocation/{id}/error`, or the error in the trailers of a streamed response.
    Error { request_id: RequestId },
    /// `POST /runtime/init/error`.
    InitError,
    /// The runtime process has exited, and all its output was read.
    Exited(Exit),
    /// The kernel has killed the runtime process because its control group reached its memory limit.
    KilledForMemory,
    /// The program of the runtime process cannot be started.
    NotStarted,
    /// The runtime process uses more memory than the function has, and the kernel does not enforce the limit.
    MemoryExceeded,
    /// A gateway or the platform asks the instance to end after its present invocation.
    Drain,
}

/// Why the machine did not accept an event. A lease that was refused has provably never started.
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

/// An effect that the supervisor carries out, in the order of the actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    StartRuntime,
    /// Answer the runtime's pending `next` with the leased event.
    Deliver {
        request_id: RequestId,
        deadline: Instant,
    },
    /// Pass a streamed response on to the gateway while it comes. [`Action::Answer`] follows at its end.
    BeginAnswer {
        request_id: RequestId,
        /// The duration of the init, on the first answer after it.
        init: Option<Duration>,
    },
    /// Answer the gateway with the runtime's body, or with that of a failure. After
    /// [`Action::BeginAnswer`], the body has been passed on, and only the outcome follows.
    Answer {
        request_id: RequestId,
        outcome: Outcome,
        /// The duration of the init, on the first answer after it.
        init: Option<Duration>,
    },
    /// Tell the gateway that the accepted lease never started, so that it may try another instance.
    Release {
        request_id: RequestId,
    },
    Log(LogLine),
    /// Stop the runtime process and all that it has started. It waits in `next`.
    Freeze,
    /// Let them go on.
    Thaw,
    /// SIGTERM to the process group.
    Terminate,
    /// SIGKILL to the process group.
    Kill,
    /// End the supervisor: no work is left.
    Shutdown,
}

/// Which body answers the invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The runtime's response.
    Success,
    /// The runtime's error body.
    FunctionError,
    /// A body that describes this failure.
    Failed(Failure),
}

impl LogLine {
    /// Whether callers of a function that hides its errors or its output may read it: it has no message and nothing
    /// that the function chose.
    pub fn is_for_all_callers(&self) -> bool {
        matches!(
            self,
            LogLine::Start { .. } | LogLine::End { .. } | LogLine::Report { .. }
        )
    }
}

/// The platform's lines in the function's log (contract §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLine {
    InitStart,
    /// Written only for an init that failed.
    InitReport {
        duration: Duration,
        failure: Failure,
        in_invocation: bool,
    },
    Start {
        request_id: RequestId,
    },
    /// The reason for [`Failure::InvalidEntrypoint`].
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
        /// The function itself answered with an error, which is no failure of its instance.
        function_error: bool,
    },
}
