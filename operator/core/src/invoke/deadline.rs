//! When an instance is overdue, and the pool gives it up.
//!
//! A supervisor enforces the function's timeout, but a function has the same user and can stop its supervisor. So the
//! pool has a deadline of its own for each lease, each drain and each init. It is later than any supervisor that runs
//! can be: one within its limits is never given up. `roster` keeps the deadlines; `pool` acts on them.

use std::time::{Duration, Instant};

use crate::instance::INIT_LIMIT;

/// How much later than the function's own limits an instance may be, for messages and for a busy machine.
pub const OVERDUE_SLACK: Duration = Duration::from_secs(10);
/// An overdue instance is given up if it is still overdue after this time. A gateway that stood still itself reads
/// the answers that came meanwhile first.
pub const CONFIRM_OVERDUE: Duration = Duration::from_secs(1);

/// When an instance must have answered, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    at: Instant,
    is_confirmation: bool,
}

/// What a deadline says at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    InTime(Deadline),
    Overdue,
}

impl Deadline {
    fn at(at: Instant) -> Self {
        Deadline {
            at,
            is_confirmation: false,
        }
    }

    /// The deadline of a lease. `idle_since`: when the instance became idle, if only this gateway has leased it. The
    /// invocation before that one may work on after its answer, for at most the rest of its own timeout.
    pub(crate) fn of_lease(now: Instant, timeout: Duration, idle_since: Option<Instant>) -> Self {
        let idle = idle_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        Deadline::at(now + timeout.saturating_sub(idle) + timeout + OVERDUE_SLACK)
    }

    /// The deadline of an init, and of a drain: it waits for an init, or for an invocation of another gateway.
    pub(crate) fn of_change(now: Instant, timeout: Duration) -> Self {
        Deadline::at(now + INIT_LIMIT.max(2 * timeout) + OVERDUE_SLACK)
    }

    /// When it has to be checked.
    pub(crate) fn due(self) -> Instant {
        self.at
    }

    pub(crate) fn check(self, now: Instant) -> Verdict {
        if now < self.at {
            return Verdict::InTime(self);
        }
        if self.is_confirmation {
            return Verdict::Overdue;
        }
        Verdict::InTime(Deadline {
            at: now + CONFIRM_OVERDUE,
            is_confirmation: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn a_lease_may_wait_for_the_end_of_the_invocation_before_it() {
        let now = Instant::now() + 2 * TIMEOUT;
        let allowed = |idle_since| Deadline::of_lease(now, TIMEOUT, idle_since).due() - now;
        assert_eq!(allowed(Some(now)), 2 * TIMEOUT + OVERDUE_SLACK);
        let half = now - TIMEOUT / 2;
        assert_eq!(allowed(Some(half)), TIMEOUT / 2 + TIMEOUT + OVERDUE_SLACK);
        let long_ago = now - 2 * TIMEOUT;
        assert_eq!(allowed(Some(long_ago)), TIMEOUT + OVERDUE_SLACK);
        // Another gateway may have leased it a moment ago.
        assert_eq!(allowed(None), 2 * TIMEOUT + OVERDUE_SLACK);
    }

    #[test]
    fn a_change_may_take_as_long_as_an_init_and_as_two_invocations() {
        let now = Instant::now();
        let allowed = |timeout| Deadline::of_change(now, timeout).due() - now;
        assert_eq!(allowed(Duration::from_secs(1)), INIT_LIMIT + OVERDUE_SLACK);
        assert_eq!(allowed(TIMEOUT), 2 * TIMEOUT + OVERDUE_SLACK);
    }

    #[test]
    fn an_overdue_instance_has_one_more_chance_counted_from_the_check() {
        let now = Instant::now();
        let deadline = Deadline::of_change(now, TIMEOUT);
        assert_eq!(deadline.check(now), Verdict::InTime(deadline));
        // The gateway stood still for a while.
        let late = deadline.due() + TIMEOUT;
        let Verdict::InTime(confirmation) = deadline.check(late) else {
            panic!("given up without a second look");
        };
        assert_eq!(confirmation.due(), late + CONFIRM_OVERDUE);
        assert_eq!(confirmation.check(late), Verdict::InTime(confirmation));
        assert_eq!(confirmation.check(confirmation.due()), Verdict::Overdue);
    }
}
