//! The gateway's clock: tokio's, so that a test with paused time pauses everything.
//!
//! `core` takes its instants from here, and timers are set by them: two clocks would disagree under
//! paused time. Tokens, sessions and signatures have the time of day instead, which a test cannot pause.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The present, to be given to `core`.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago that was.
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// The time of day.
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now()
}

/// The time of day, in seconds since 1970.
pub(crate) fn seconds() -> u64 {
    let since = time_of_day().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// The time of day, in seconds since 1970 and parts of them.
pub(crate) fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
