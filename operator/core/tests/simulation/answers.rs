//! The answers of simulated instances, and the outcomes that callers get, by the names of the Invoke API.

use pilotlight_core::invoke::pool::Rejection;
use pilotlight_load::record::CallOutcome;

/// The answer of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// The body is the number of the invocation that the handler got.
    Success(u64),
    FunctionError,
    Failed,
}

impl Answer {
    pub(crate) fn outcome(self) -> CallOutcome {
        match self {
            Answer::Success(answer) => CallOutcome::Success {
                answer: answer.to_string(),
            },
            Answer::FunctionError => failed("by its handler"),
            Answer::Failed => failed("by its runtime"),
        }
    }
}

pub(crate) const MAY_HAVE_RUN: &str = "ServiceException";
/// An error of the handler or the end of its runtime process.
const FAILED: &str = "Unhandled";
/// An instance refused a lease of another gateway.
const BUSY: &str = "Busy";
/// The errors that callers may get at any time in these worlds.
pub(crate) const ALWAYS: [&str; 4] = [
    "TooManyRequestsException",
    "ResourceNotReadyException",
    FAILED,
    BUSY,
];

/// The error type in the Invoke API.
pub(crate) fn kind(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Throttled | Rejection::QueueBytes | Rejection::WaitedTooLong => {
            "TooManyRequestsException"
        }
        Rejection::CannotStart(_) => "ResourceNotReadyException",
        Rejection::Deleted => "ResourceNotFoundException",
        Rejection::Moved => "Moved",
    }
}

fn error(kind: &str, message: String) -> CallOutcome {
    let kind = kind.to_owned();
    CallOutcome::Error { kind, message }
}

pub(crate) fn rejected(rejection: &Rejection) -> CallOutcome {
    error(kind(rejection), format!("{rejection:?}"))
}

/// The outcome of a lease of another gateway that the instance refused or released.
pub(crate) fn busy() -> CallOutcome {
    error(BUSY, String::new())
}

/// The outcome of an invocation whose instance ended while it ran.
pub(crate) fn may_have_run() -> CallOutcome {
    error(MAY_HAVE_RUN, "the instance is gone".to_owned())
}

fn failed(message: &str) -> CallOutcome {
    CallOutcome::FunctionError {
        kind: FAILED.to_owned(),
        message: message.to_owned(),
    }
}
