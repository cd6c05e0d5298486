//! What instances answer and what callers are told, as the Invoke API names it.

use pilotlight_core::invoke::pool::Rejection;
use pilotlight_load::record::Outcome;

/// What an instance answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// With the number of the invocation that the handler had.
    Success(u64),
    FunctionError,
    Failed,
}

impl Answer {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Answer::Success(answer) => Outcome::Success {
                answer: answer.to_string(),
            },
            Answer::FunctionError => failed("by its handler"),
            Answer::Failed => failed("by its runtime"),
        }
    }
}

pub(crate) const MAY_HAVE_RUN: &str = "ServiceException";
/// A handler's error, a runtime's that ended, and a lease that another gateway was refused.
const FAILED: &str = "Unhandled";
const BUSY: &str = "Busy";
/// What callers may be told at any time in these worlds.
pub(crate) const ALWAYS: [&str; 4] = [
    "TooManyRequestsException",
    "ResourceNotReadyException",
    FAILED,
    BUSY,
];

/// As the Invoke API names it.
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

fn error(kind: &str, message: String) -> Outcome {
    let kind = kind.to_owned();
    Outcome::Error { kind, message }
}

pub(crate) fn rejected(rejection: &Rejection) -> Outcome {
    error(kind(rejection), format!("{rejection:?}"))
}

/// A lease of another gateway's was not accepted, or given back.
pub(crate) fn busy() -> Outcome {
    error(BUSY, String::new())
}

/// The instance went with the lease.
pub(crate) fn may_have_run() -> Outcome {
    error(MAY_HAVE_RUN, "the instance is gone".to_owned())
}

fn failed(message: &str) -> Outcome {
    Outcome::FunctionError {
        kind: FAILED.to_owned(),
        message: message.to_owned(),
    }
}
