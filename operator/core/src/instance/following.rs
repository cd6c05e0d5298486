//! Whether a gateway still follows an instance that came from a warm pool.
//!
//! At first only the gateway that claimed such an instance knows its function; the gateway then reports
//! it to the controller. If the gateway dies before that, the instance is an orphan and ends by itself.
//! This decides when. Fed by the supervisor with the status streams and leases of gateways.

use std::time::{Duration, Instant};

/// How long an instance waits for a gateway. A restart of a gateway and a handover take much less.
pub const ORPHANED_AFTER: Duration = Duration::from_secs(60);

/// Counts the status streams and leases that gateways have open with this instance.
#[derive(Debug)]
pub struct Following {
    limit: Duration,
    under_way: usize,
    since: Instant,
}

impl Following {
    /// No gateway follows the instance yet. `limit`: see [`ORPHANED_AFTER`].
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

    /// When the instance becomes an orphan, unless a gateway follows it before.
    pub fn orphaned_at(&self) -> Option<Instant> {
        (self.under_way == 0).then(|| self.since + self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_an_orphan_when_no_gateway_has_followed_it_for_the_whole_limit() {
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
