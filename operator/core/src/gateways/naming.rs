//! When a gateway's demand names a pod that the gateway claimed from a warm pool.
//!
//! Fed by `gateway::cluster::backend` with the time of the claim and the end of the instance. The
//! controller adopts a pod that is named, and refills the warm pool (`fleet::stock`).

use std::time::{Duration, Instant};

/// The delay between a claim and its first mention in the demand. Adoption and refill need processor time
/// that the cold start itself needs at first.
pub const NAMING_DELAY: Duration = Duration::from_millis(250);
/// The shortest time for which the demand names a claimed pod, so that the controller reads it even if the
/// instance ends at once.
pub const NAMING_MIN: Duration = Duration::from_secs(2);

/// The times between which the demand names one claimed pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    claimed_at: Instant,
    ended_at: Option<Instant>,
}

impl Naming {
    pub fn new(claimed_at: Instant) -> Self {
        Naming {
            claimed_at,
            ended_at: None,
        }
    }

    /// The instance has ended, or the gateway gave it up.
    pub fn end(&mut self, now: Instant) {
        self.ended_at.get_or_insert(now);
    }

    /// When the demand begins to name the pod.
    pub fn starts_at(&self) -> Instant {
        self.claimed_at + NAMING_DELAY
    }

    /// When the demand stops naming the pod; `None`: not before the instance ends.
    pub fn stops_at(&self) -> Option<Instant> {
        let least = self.starts_at() + NAMING_MIN;
        self.ended_at.map(|ended| ended.max(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_pod_is_named_after_the_delay_and_until_its_instance_ends() {
        let claimed = Instant::now();
        let mut naming = Naming::new(claimed);
        assert_eq!(naming.starts_at(), claimed + NAMING_DELAY);
        assert_eq!(naming.stops_at(), None);
        let late = claimed + 10 * NAMING_MIN;
        naming.end(late);
        naming.end(late + NAMING_MIN);
        assert_eq!(naming.stops_at(), Some(late));
    }

    #[test]
    fn a_claimed_pod_is_named_long_enough_even_if_its_instance_ends_at_once() {
        let claimed = Instant::now();
        let mut naming = Naming::new(claimed);
        naming.end(claimed);
        assert_eq!(naming.stops_at(), Some(claimed + NAMING_DELAY + NAMING_MIN));
    }
}
