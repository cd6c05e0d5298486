//! The supervisor's clock, which is tokio's, so that a test can pause the time of everything.
//!
//! `core` gets its instants from here, and the alarms derived from them are timers of tokio. With two clocks
//! these would disagree under paused time.

use std::time::Instant;

/// The present instant.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
