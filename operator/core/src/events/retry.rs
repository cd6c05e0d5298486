//! When an event is tried again, and when it is given up (contract §6).
//!
//! An attempt that began counts as one of the declared attempts, whatever became of it, so a function runs at most
//! `1 + retries` times for an event that its queue delivers once. An attempt that provably never began costs nothing but
//! time: it is repeated with a backoff until the event is too old.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The pause after the first attempt that failed. It grows by itself with each further one.
pub const FAILURE_PAUSE: Duration = Duration::from_secs(60);
/// The backoff of attempts that did not begin: the first and the longest.
pub const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A time in milliseconds since 1970, because events outlive the process that has accepted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventTime(pub u64);

/// What a function declares about its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPolicy {
    /// How old an event is at most when an attempt begins.
    pub max_age: Duration,
    /// How many attempts follow one that failed.
    pub retries: u8,
}

/// How far an event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub accepted: EventTime,
    /// How many attempts have begun and failed.
    pub failures: u8,
    /// How many attempts since then have not begun.
    pub refusals: u16,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Succeeded,
    /// The function ended with an error, or its instance was lost after it had begun.
    Failed,
    /// It provably never began: a throttle, or an instance that could not be started.
    NotBegun,
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventEnd {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
    ZeroReservedConcurrency,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    End(EventEnd),
    /// It is tried again at this time.
    Again(EventTime),
}

impl EventTime {
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        EventTime(self.0.saturating_add(millis))
    }

    /// Zero if the other is later.
    pub fn since(self, other: EventTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(other.0))
    }
}

impl EventEnd {
    pub const ALL: [EventEnd; 4] = [
        EventEnd::Success,
        EventEnd::RetriesExhausted,
        EventEnd::EventAgeExceeded,
        EventEnd::ZeroReservedConcurrency,
    ];

    /// The condition in a destination's record.
    pub fn condition(self) -> &'static str {
        match self {
            EventEnd::Success => "Success",
            EventEnd::RetriesExhausted => "RetriesExhausted",
            EventEnd::EventAgeExceeded => "EventAgeExceeded",
            EventEnd::ZeroReservedConcurrency => "ZeroReservedConcurrency",
        }
    }
}

impl Progress {
    pub fn new(accepted: EventTime) -> Self {
        Progress {
            accepted,
            failures: 0,
            refusals: 0,
        }
    }

    /// Whether the event ends instead of being tried now. `reserved`: the function's reserved concurrency.
    pub fn before(
        &self,
        now: EventTime,
        policy: &EventPolicy,
        reserved: Option<u32>,
    ) -> Option<EventEnd> {
        if reserved == Some(0) {
            return Some(EventEnd::ZeroReservedConcurrency);
        }
        let is_old = now >= self.accepted.after(policy.max_age);
        is_old.then_some(EventEnd::EventAgeExceeded)
    }

    /// Counts an attempt. `random` spreads attempts that were refused at the same time.
    pub fn after(
        &mut self,
        attempt: Attempt,
        now: EventTime,
        policy: &EventPolicy,
        random: u32,
    ) -> Next {
        let pause = match attempt {
            Attempt::Succeeded => return Next::End(EventEnd::Success),
            Attempt::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.refusals = 0;
                if self.failures > policy.retries {
                    return Next::End(EventEnd::RetriesExhausted);
                }
                FAILURE_PAUSE * u32::from(self.failures)
            }
            Attempt::NotBegun => self.refused(random),
        };
        // An event that is too old by then ends at the moment at which it is.
        let end = self.accepted.after(policy.max_age);
        Next::Again(now.after(pause).min(end).max(now))
    }

    /// Counts an attempt that has not begun, and returns the pause before the next one. `random` spreads those that were
    /// refused at the same time.
    pub(super) fn refused(&mut self, random: u32) -> Duration {
        self.refusals = self.refusals.saturating_add(1);
        let (first, longest) = BACKOFF;
        let doublings = u32::from(self.refusals - 1).min(16);
        let whole = first.saturating_mul(1 << doublings).min(longest);
        // From half of the pause to all of it.
        let part = u128::from(random) * (whole / 2).as_millis() / u128::from(u32::MAX);
        let part = Duration::from_millis(part as u64);
        (whole / 2 + part).max(first)
    }

    /// How many attempts have begun. `end`: how the event ended, if it has.
    pub fn attempts(&self, end: Option<EventEnd>) -> u32 {
        u32::from(self.failures) + u32::from(end == Some(EventEnd::Success))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: EventTime = EventTime(1_000_000);

    fn policy(max_age: u64, retries: u8) -> EventPolicy {
        EventPolicy {
            max_age: Duration::from_secs(max_age),
            retries,
        }
    }

    fn at(seconds: u64) -> EventTime {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_function_that_fails_is_tried_again_after_one_and_two_minutes() {
        let (policy, mut progress) = (policy(21_600, 2), Progress::new(START));
        assert_eq!(
            progress.after(Attempt::Failed, at(0), &policy, 0),
            Next::Again(at(60))
        );
        assert_eq!(
            progress.after(Attempt::Failed, at(70), &policy, 0),
            Next::Again(at(190))
        );
        let next = progress.after(Attempt::Failed, at(191), &policy, 0);
        assert_eq!(next, Next::End(EventEnd::RetriesExhausted));
        assert_eq!(progress.attempts(Some(EventEnd::RetriesExhausted)), 3);
    }

    #[test]
    fn retries_may_be_fewer() {
        for (retries, attempts) in [(0, 1), (1, 2)] {
            let (policy, mut progress) = (policy(21_600, retries), Progress::new(START));
            let mut ran = 1;
            while let Next::Again(_) = progress.after(Attempt::Failed, at(ran), &policy, 0) {
                ran += 1;
            }
            assert_eq!(ran, attempts);
        }
    }

    #[test]
    fn what_never_began_is_repeated_with_a_backoff_and_is_no_retry() {
        let (policy, mut progress) = (policy(21_600, 0), Progress::new(START));
        let pauses: Vec<u64> = (0..12)
            .map(
                |_| match progress.after(Attempt::NotBegun, START, &policy, u32::MAX) {
                    Next::Again(due) => due.since(START).as_secs(),
                    Next::End(end) => panic!("{end:?}"),
                },
            )
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(progress.attempts(None), 0);
        let mut again = progress;
        let Next::Again(due) = again.after(Attempt::NotBegun, START, &policy, 0) else {
            panic!("it is tried again");
        };
        assert_eq!(due.since(START).as_secs(), 150, "half at least");
        let next = progress.after(Attempt::Succeeded, START, &policy, 0);
        assert_eq!(next, Next::End(EventEnd::Success));
        assert_eq!(progress.attempts(Some(EventEnd::Success)), 1);
    }

    #[test]
    fn an_event_ends_as_soon_as_it_is_too_old() {
        let (policy, mut progress) = (policy(90, 2), Progress::new(START));
        assert_eq!(progress.before(at(89), &policy, None), None);
        assert_eq!(
            progress.before(at(90), &policy, None),
            Some(EventEnd::EventAgeExceeded)
        );
        progress.after(Attempt::Failed, at(0), &policy, 0);
        // After two minutes more it would be too old.
        let next = progress.after(Attempt::Failed, at(60), &policy, 0);
        assert_eq!(next, Next::Again(at(90)));
        assert_eq!(progress.attempts(Some(EventEnd::EventAgeExceeded)), 2);
        // An attempt that lasted longer than the event's age.
        let mut long = Progress::new(START);
        assert_eq!(
            long.after(Attempt::Failed, at(300), &policy, 0),
            Next::Again(at(300))
        );
    }

    #[test]
    fn a_function_without_concurrency_ends_its_events_at_once() {
        let progress = Progress::new(START);
        let end = progress.before(START, &policy(60, 2), Some(0));
        assert_eq!(end, Some(EventEnd::ZeroReservedConcurrency));
        assert_eq!(progress.attempts(end), 0);
        assert_eq!(progress.before(START, &policy(60, 2), Some(1)), None);
    }
}
