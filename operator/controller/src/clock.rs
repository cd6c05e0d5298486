//! The time of day, which certificates and the keys of sessions have.

use std::time::{SystemTime, UNIX_EPOCH};

/// In seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
