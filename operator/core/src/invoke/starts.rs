//! When one pool may start its next instance: the pace of starts, and the backoff after a failed one.
//!
//! Owned and fed by `pool`. It never starts anything, and knows no instance and no invocation.

use std::time::{Duration, Instant};

use crate::reason::Reason;

/// How fast instances may be started: the model's 1,000 in 10 s per function (contract §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// How many instances may start at once after a time without starts.
    pub burst: u32,
    /// The time between two further starts.
    pub interval: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Pacing {
            burst: 1000,
            interval: Duration::from_millis(10),
        }
    }
}

const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest backoff after a refusal. A refusal costs nothing and may end at any time; a failed start
/// costs an instance.
const BACKOFF_MAX_REFUSED: Duration = Duration::from_secs(1);

/// One failed start may be an accident, for example a pod that was evicted: its reason is reported to
/// callers only if one of them has already waited this long, since the next attempt may take as long.
const REPORT_FIRST_FAILURE_AFTER: Duration = Duration::from_secs(5);

/// Whether a start failed, or was not attempted because whoever makes instances refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartFailure {
    Failed,
    Refused,
}

#[derive(Debug)]
struct Backoff {
    /// Consecutive failed starts. Failures that arrive while a backoff is running are not counted again.
    failures: u32,
    until: Instant,
    reason: Reason,
    /// Whether callers get the reason as their answer.
    is_reported: bool,
}

#[derive(Debug)]
pub(super) struct Starts {
    pacing: Pacing,
    /// Each start moves this on by the interval; it may be ahead of the present by the burst.
    paced_until: Option<Instant>,
    backoff: Option<Backoff>,
}

impl Starts {
    pub(super) fn new(pacing: Pacing) -> Self {
        Starts {
            pacing,
            paced_until: None,
            backoff: None,
        }
    }

    /// When the next instance may start; `None`: at once.
    pub(super) fn next_start(&self) -> Option<Instant> {
        let burst = self.pacing.interval * self.pacing.burst.saturating_sub(1);
        let paced = self.paced_until.and_then(|until| until.checked_sub(burst));
        paced.max(self.backoff.as_ref().map(|backoff| backoff.until))
    }

    /// An instance starts now.
    pub(super) fn begin(&mut self, now: Instant) {
        let until = self.paced_until.map_or(now, |until| until.max(now));
        self.paced_until = Some(until + self.pacing.interval);
    }

    /// An instance came up, or there is a reason to try at once: the backoff ends.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = None;
    }

    /// A start failed. `longest_wait`: of the invocations in the queue. Returns whether callers get the
    /// reason as their answer.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        failure: StartFailure,
        reason: Reason,
        longest_wait: Duration,
    ) -> bool {
        let failures = match &self.backoff {
            Some(last) if last.until > now => last.failures,
            Some(last) => last.failures + 1,
            None => 1,
        };
        let is_refused = failure == StartFailure::Refused;
        let longest = match is_refused {
            true => BACKOFF_MAX_REFUSED,
            false => BACKOFF_MAX,
        };
        let pause = BACKOFF_FIRST
            .saturating_mul(1 << (failures - 1).min(16))
            .min(longest);
        let is_reported = is_refused || failures > 1 || longest_wait >= REPORT_FIRST_FAILURE_AFTER;
        self.backoff = Some(Backoff {
            failures,
            until: now + pause,
            reason,
            is_reported,
        });
        is_reported
    }

    /// Why the last start failed, if no instance has come up since.
    pub(super) fn last_failure(&self) -> Option<&Reason> {
        self.backoff.as_ref().map(|backoff| &backoff.reason)
    }

    /// The reason with which a new invocation is rejected while the backoff runs.
    pub(super) fn reported_failure(&self, now: Instant) -> Option<&Reason> {
        let backoff = self.backoff.as_ref()?;
        (backoff.is_reported && backoff.until > now).then_some(&backoff.reason)
    }
}
