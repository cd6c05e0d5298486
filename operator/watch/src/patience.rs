//! How long a watch rests between two attempts.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;

/// kube's own pauses reach half a minute, and the first attempt that finds the API server again may
/// fail once more: what was watched is too old.
const LONGEST: Duration = Duration::from_secs(4);

/// kube's pauses, but none longer than 4 s.
#[derive(Default)]
#[allow(missing_debug_implementations)] // kube's has none
pub struct Patience(DefaultBackoff);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0.reset();
    }
}
