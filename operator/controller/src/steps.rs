//! Steps under way, and what they have in common, be they for a function or a warm pool.
//!
//! `function` and `pool` begin them in tasks; `worker` hands back what became of each. [`Telling`]
//! says when a status is to be written: each change, but not too often, and one at a time.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::{function, pool};

/// Before a write that failed is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// Between two statuses of one resource.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) type Steps = JoinSet<Done>;

/// What became of a step.
pub(crate) enum Done {
    Function(function::Done),
    Pool(pool::Done),
}

/// The status of one resource, as the API server was told it.
#[derive(Debug)]
pub(crate) struct Telling<S> {
    told: Option<S>,
    is_under_way: bool,
    not_before: Option<Instant>,
}

impl<S> Default for Telling<S> {
    fn default() -> Self {
        Telling {
            told: None,
            is_under_way: false,
            not_before: None,
        }
    }
}

impl<S> Telling<S> {
    /// What the API server knows; `shown`: what the watch shows of it.
    pub(crate) fn known<'a>(&'a self, shown: Option<&'a S>) -> Option<&'a S> {
        self.told.as_ref().or(shown)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.is_under_way && self.not_before.is_none_or(|at| at <= now)
    }

    pub(crate) fn begin(&mut self) {
        self.is_under_way = true;
    }

    pub(crate) fn end(&mut self, now: Instant, status: S, failed: bool) {
        self.is_under_way = false;
        self.not_before = Some(now + STATUS_INTERVAL);
        if !failed {
            self.told = Some(status);
        }
    }

    /// Somebody waits for the next one.
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
