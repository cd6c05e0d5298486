//! The pauses between two attempts to watch.

use std::time::Duration;

use kube::runtime::utils;
use kube::runtime::watcher::DefaultBackoff;

/// The longest pause. kube's own pauses grow to half a minute, and the first attempt that reaches the API
/// server again may fail once more because the version to continue from is too old.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// kube's exponential backoff, bounded by 4 s.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "kube's backoff has none")]
pub struct Backoff(DefaultBackoff);

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST_PAUSE))
    }
}

impl utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}
