//! What a rejection of the pool means for the caller, and how outcomes are counted.
//!
//! `driver` asks for the meaning of a rejection, the invoker for the label. Pure; `http::invoke` and
//! `wire::invoke` say how an outcome is written.

use pilotlight_core::invoke::pool::Rejection;
use pilotlight_wire::invoke::ThrottleReason;

use crate::message::{Invocation, Outcome, Placement};
use crate::metrics::OutcomeLabel;

/// What the function and the gateway are like when the pool rejects an invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    pub(crate) is_reserved: bool,
    /// A gateway that ends deletes all its pools, but no function is deleted then.
    pub(crate) is_stopping: bool,
}

/// What becomes of an invocation that a pool rejects.
pub(crate) fn of_rejection(
    rejection: Rejection,
    invocation: Invocation,
    circumstances: Circumstances,
) -> Placement {
    let Circumstances {
        is_reserved,
        is_stopping,
    } = circumstances;
    Placement::Ended(match rejection {
        Rejection::Throttled | Rejection::WaitedTooLong => Outcome::Throttled(match is_reserved {
            true => ThrottleReason::ReservedConcurrency,
            false => ThrottleReason::Concurrency,
        }),
        Rejection::QueueBytes => Outcome::Throttled(ThrottleReason::QueueBytes),
        Rejection::CannotStart(reason) => Outcome::NotReady(reason),
        Rejection::Deleted if is_stopping => Outcome::Stopping,
        Rejection::Deleted => Outcome::NotFound,
        Rejection::Moved => return Placement::NotStarted(Box::new(invocation)),
    })
}

pub(crate) fn label(outcome: &Outcome) -> OutcomeLabel {
    match outcome {
        Outcome::Answered(answer) if answer.is_error => OutcomeLabel::function_error,
        Outcome::Answered(_) => OutcomeLabel::success,
        Outcome::Lost => OutcomeLabel::lost,
        Outcome::NotReady(_) => OutcomeLabel::not_ready,
        Outcome::Throttled(_) => OutcomeLabel::throttled,
        Outcome::NotFound | Outcome::NotPlaced | Outcome::Stopping | Outcome::Invalid(_) => {
            OutcomeLabel::refused
        }
    }
}
