//! Creations of pods in flight, and the pace after a refusal.
//!
//! `fleet` and `stock` ask it what may be begun. A creation is expected until the watch shows the pod
//! or the API server refuses it, so that a watch that lags behind never leads to a second one (rule
//! 6). After a refusal one goes ahead at a bounded pace; the others follow when it is taken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A creation of which nothing was heard by then is made again, under the same name.
pub(crate) const EXPECTATION: Duration = Duration::from_secs(30);
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// One pod at a time is tried, so this may be short: it is what a lifted quota is noticed after.
const BACKOFF_LAST: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Creations {
    expected: BTreeMap<String, Instant>,
    refusals: u32,
    refused_until: Option<Instant>,
}

impl Creations {
    pub(crate) fn begin(&mut self, now: Instant, name: String) {
        self.expected.insert(name, now + EXPECTATION);
    }

    /// It is over: the pod is there, or will never be.
    pub(crate) fn end(&mut self, name: &str) {
        self.expected.remove(name);
    }

    pub(crate) fn retain(&mut self, is_expected: impl Fn(&str) -> bool) {
        self.expected.retain(|name, _| is_expected(name));
    }

    pub(crate) fn is_expected(&self, name: &str) -> bool {
        self.expected.contains_key(name)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.expected.len()
    }

    /// How many may be begun now.
    pub(crate) fn at_once(&self) -> usize {
        match (self.refusals, self.expected.is_empty()) {
            _ if self.is_paused() => 0,
            (0, _) => usize::MAX,
            (_, true) => 1,
            (_, false) => 0,
        }
    }

    /// After a refusal.
    pub(crate) fn is_paused(&self) -> bool {
        self.refused_until.is_some()
    }

    /// The API server took a pod, or had it already.
    pub(crate) fn taken(&mut self) {
        // Of the same burst others may have been refused: a quota with room for some.
        if self.refused_until.is_none() {
            self.refusals = 0;
        }
    }

    /// Since the last refusal a pod was taken.
    pub(crate) fn is_accepted(&self) -> bool {
        self.refusals == 0
    }

    pub(crate) fn refused(&mut self, now: Instant, name: &str) {
        self.end(name);
        // Those of one burst are refused together, and count as one.
        if self.refused_until.is_none_or(|until| until <= now) {
            let pause = BACKOFF_FIRST.saturating_mul(1 << self.refusals.min(16));
            self.refusals = self.refusals.saturating_add(1);
            self.refused_until = Some(now + pause.min(BACKOFF_LAST));
        }
    }

    /// Time has passed.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.expected.retain(|_, until| *until > now);
        self.refused_until = self.refused_until.filter(|until| *until > now);
    }

    /// When [`Creations::wake`] is due.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let expectation = self.expected.values().min().copied();
        self.refused_until.into_iter().chain(expectation).min()
    }
}
