//! Whether a gateway still follows an instance that came from a warm pool.
//!
//! Nobody but the gateway that claimed it knows what such an instance has become, until that
//! gateway tells the controller. One that dies before it could leaves an orphan, which ends by
//! itself: this says when. Fed by the supervisor with the gateways' calls.

use std::time::{Duration, Instant};

/// A gateway that restarts, or hands a function over, is back long before.
pub const ORPHANED_AFTER: Duration = Duration::from_secs(60);

/// Counts what gateways have under way with this instance: status streams and leases.
#[derive(Debug)]
pub struct Following {
    limit: Duration,
    under_way: usize,
    since: Instant,
}

impl Following {
    /// Nobody does yet.
    pub fn new(now: Instant, limit: Duration) -> Self {
        Following {
            limit,
            under_way: 0,
            since: now,
        }
    }

    pub fn begin(&mut self) {
        self.under_way += 1;
    }

    pub fn end(&mut self, now: Instant) {
        self.under_way -= 1;
        self.since = now;
    }

    /// When the instance is an orphan, if nobody comes before.
    pub fn orphaned_at(&self) -> Option<Instant> {
        (self.under_way == 0).then(|| self.since + self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_whom_nobody_has_followed_for_the_whole_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut following = Following::new(start, ORPHANED_AFTER);
        assert_eq!(following.orphaned_at(), Some(after(60)));
        following.begin();
        following.begin();
        following.end(after(10));
        assert_eq!(following.orphaned_at(), None, "one of two is left");
        following.end(after(100));
        assert_eq!(following.orphaned_at(), Some(after(160)));
    }
}
