//! The time of day, which certificates, the keys of sessions and spans have.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In seconds since 1970.
pub(crate) fn now() -> u64 {
    since_epoch().as_secs()
}

/// The time since 1970.
pub(crate) fn since_epoch() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}
