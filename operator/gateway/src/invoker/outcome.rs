//! What a rejection of the pool means for the caller.
//!
//! `driver` asks for it. Pure; `http::invoke` and `wire::invoke` say how an outcome is written.

use pilotlight_core::invoke::pool::Rejection;
use pilotlight_wire::invoke::{Outcome, ThrottleReason};

/// What the function and the gateway are like when the pool rejects an invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    pub(crate) is_reserved: bool,
    /// A gateway that ends deletes all its pools, but no function is deleted then.
    pub(crate) is_stopping: bool,
}

/// How an invocation ends that a pool rejects. `None`: it has not ended, since another gateway may run it.
pub(crate) fn of_rejection(rejection: Rejection, circumstances: Circumstances) -> Option<Outcome> {
    let Circumstances {
        is_reserved,
        is_stopping,
    } = circumstances;
    Some(match rejection {
        Rejection::Throttled | Rejection::WaitedTooLong => Outcome::Throttled(match is_reserved {
            true => ThrottleReason::ReservedConcurrency,
            false => ThrottleReason::Concurrency,
        }),
        Rejection::QueueBytes => Outcome::Throttled(ThrottleReason::QueueBytes),
        Rejection::CannotStart(reason) => Outcome::NotReady(reason),
        Rejection::Deleted if is_stopping => Outcome::Stopping,
        Rejection::Deleted => Outcome::NotFound,
        Rejection::Moved => return None,
    })
}
