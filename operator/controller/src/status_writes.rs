//! When the status of one resource is written: after every change, one write at a time, and not too often.
//!
//! `tracked` asks before each write and reports how it ended. What a status says is `reconcile::status`'s.

use std::time::{Duration, Instant};

/// The shortest time between two writes for one resource.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct StatusWrites<S> {
    /// The last status that was written by this controller.
    written: Option<S>,
    is_under_way: bool,
    not_before: Option<Instant>,
}

impl<S> Default for StatusWrites<S> {
    fn default() -> Self {
        StatusWrites {
            written: None,
            is_under_way: false,
            not_before: None,
        }
    }
}

impl<S: Clone> StatusWrites<S> {
    /// The status that the API server has. `shown`: the one that the watch shows, which may lag behind.
    pub(crate) fn latest(&self, shown: Option<S>) -> Option<S> {
        self.written.clone().or(shown)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.is_under_way && self.not_before.is_none_or(|at| at <= now)
    }

    pub(crate) fn begin(&mut self) {
        self.is_under_way = true;
    }

    pub(crate) fn finish(&mut self, now: Instant, status: S, failed: bool) {
        self.is_under_way = false;
        self.not_before = Some(now + INTERVAL);
        if !failed {
            self.written = Some(status);
        }
    }

    /// Somebody waits for the next status.
    pub(crate) fn hurry(&mut self) {
        self.not_before = None;
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        self.not_before = self.not_before.filter(|at| *at > now);
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.is_under_way)
    }
}
