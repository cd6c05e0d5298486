//! The gateway's clock: tokio's, so that a test with paused time pauses everything.
//!
//! `core` takes its instants from here, and timers are set by them: two clocks would disagree under
//! paused time.

use std::time::{Duration, Instant};

/// The present, to be given to `core`.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago that was.
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}
