//! The supervisor's clock: tokio's, so that a test with paused time pauses everything.
//!
//! `core` takes its instants from here, and alarms are set by them: two clocks would disagree under
//! paused time.

use std::time::Instant;

/// The present, to be given to `core`.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
