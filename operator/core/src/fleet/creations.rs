//! Creations of pods that are in flight, and the backoff after the API server refused one.
//!
//! `pods` and `stock` ask here how many creations they may begin. A creation is expected until the watch
//! shows the pod or the API server refuses it, so that a watch that lags never leads to a second pod
//! (rule 6). After a refusal one creation is tried at a bounded pace; the others follow when the API
//! server has accepted it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a creation without any result is expected; then it is repeated under the same name.
pub(crate) const EXPECTATION_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest backoff. It is the time until a lifted quota is noticed, and may be short because only one
/// pod is tried at a time.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// `K`: the name of what is created, which stays the same when a creation is repeated.
#[derive(Debug)]
pub(crate) struct Creations<K> {
    expected: BTreeMap<K, Instant>,
    refusals: u32,
    refused_until: Option<Instant>,
}

impl<K> Default for Creations<K> {
    fn default() -> Self {
        Creations {
            expected: BTreeMap::new(),
            refusals: 0,
            refused_until: None,
        }
    }
}

impl<K: Ord> Creations<K> {
    pub(crate) fn begin(&mut self, now: Instant, name: K) {
        self.expected.insert(name, now + EXPECTATION_TIMEOUT);
    }

    /// The creation is over: the pod exists, or the API server refused it.
    pub(crate) fn end(&mut self, name: &K) {
        self.expected.remove(name);
    }

    pub(crate) fn retain(&mut self, is_expected: impl Fn(&K) -> bool) {
        self.expected.retain(|name, _| is_expected(name));
    }

    pub(crate) fn is_expected(&self, name: &K) -> bool {
        self.expected.contains_key(name)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.expected.len()
    }

    /// How many creations may begin now.
    pub(crate) fn at_once(&self) -> usize {
        match (self.refusals, self.expected.is_empty()) {
            _ if self.is_paused() => 0,
            (0, _) => usize::MAX,
            (_, true) => 1,
            (_, false) => 0,
        }
    }

    /// Whether the backoff after a refusal is running.
    pub(crate) fn is_paused(&self) -> bool {
        self.refused_until.is_some()
    }

    /// The API server accepted a pod, or had it already.
    pub(crate) fn accepted(&mut self) {
        // Others of the same burst may have been refused: the quota had room for only some of them.
        if self.refused_until.is_none() {
            self.refusals = 0;
        }
    }

    /// Whether the API server has accepted a pod since its last refusal.
    pub(crate) fn is_accepted(&self) -> bool {
        self.refusals == 0
    }

    pub(crate) fn refused(&mut self, now: Instant, name: &K) {
        self.end(name);
        // The refusals of one burst arrive together and count as one.
        if self.refused_until.is_none_or(|until| until <= now) {
            let pause = BACKOFF_FIRST.saturating_mul(1 << self.refusals.min(16));
            self.refusals = self.refusals.saturating_add(1);
            self.refused_until = Some(now + pause.min(BACKOFF_MAX));
        }
    }

    /// Acts on deadlines that have passed.
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
