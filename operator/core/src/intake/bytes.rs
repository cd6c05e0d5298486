//! A budget of bytes that many tasks draw from: one atomic counter, without a lock.
//!
//! The gateway takes a body's size before it reads the body, and the share returns when the last copy of the
//! body is dropped. Large shares leave a part of the budget to small ones: senders of large bodies that stall
//! cannot keep out a function with small events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shares of at most this size may use the whole budget.
pub const SMALL: usize = 64 * 1024;

/// See the module. All clones are the same budget.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    used: AtomicUsize,
}

/// A part of a budget, which returns when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: ByteBudget,
    bytes: usize,
}

impl ByteBudget {
    pub fn new(limit: usize) -> Self {
        let used = AtomicUsize::new(0);
        ByteBudget(Arc::new(State { limit, used }))
    }

    /// `None` if so many bytes do not fit.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        let share = Share {
            budget: self.clone(),
            bytes: 0,
        };
        share.grown(bytes)
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Large shares hardly fit any more. Whoever holds bytes without progress then has less time
    /// (`pace::SHORT`).
    pub fn is_short(&self) -> bool {
        self.used() >= self.0.limit / 2
    }

    fn room(&self, bytes: usize) -> usize {
        match bytes <= SMALL {
            true => self.0.limit,
            false => self.0.limit - self.0.limit / 4,
        }
    }
}

impl Share {
    /// The share with so many bytes more; `None`, and nothing is held, if they do not fit.
    pub fn grown(mut self, bytes: usize) -> Option<Share> {
        let room = self.budget.room(self.bytes.saturating_add(bytes));
        let used = &self.budget.0.used;
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= room);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        self.bytes += bytes;
        Some(self)
    }

    pub fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        self.bytes -= excess;
        self.budget.0.used.fetch_sub(excess, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn bytes_are_taken_until_the_budget_is_used_and_return_with_their_share() {
        let budget = ByteBudget::new(2 * SMALL);
        let first = budget.take(SMALL).expect("it fits");
        let second = budget.take(SMALL).expect("it fits exactly");
        assert!(budget.take(1).is_none());
        assert_eq!(budget.used(), 2 * SMALL);
        drop(first);
        assert_eq!(budget.take(SMALL).map(|share| share.bytes()), Some(SMALL));
        assert_eq!(budget.used(), SMALL);
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn large_shares_leave_a_quarter_to_small_ones() {
        let budget = ByteBudget::new(8 * MIB);
        let large = budget.take(6 * MIB).expect("three quarters");
        assert!(budget.take(SMALL + 1).is_none());
        let small: Vec<_> = std::iter::from_fn(|| budget.take(SMALL)).collect();
        assert_eq!(small.len(), 2 * MIB / SMALL);
        drop(large);
        assert_eq!(budget.used(), 2 * MIB);
    }

    #[test]
    fn a_share_that_cannot_grow_returns_what_it_had() {
        let budget = ByteBudget::new(8 * MIB);
        let share = budget.take(4 * MIB).and_then(|share| share.grown(2 * MIB));
        assert_eq!(share.as_ref().map(Share::bytes), Some(6 * MIB));
        assert!(share.and_then(|share| share.grown(1)).is_none());
        assert_eq!(budget.used(), 0);
        let overflow = budget.take(1).and_then(|share| share.grown(usize::MAX));
        assert!(overflow.is_none() && budget.used() == 0);
    }

    #[test]
    fn a_share_shrinks_and_the_budget_is_short_from_the_half_on() {
        let budget = ByteBudget::new(8 * MIB);
        let mut share = budget.take(6 * MIB).expect("it fits");
        assert!(budget.is_short());
        share.shrink_to(MIB);
        share.shrink_to(2 * MIB);
        assert_eq!((share.bytes(), budget.used()), (MIB, MIB));
        assert!(!budget.is_short());
    }

    #[test]
    fn threads_together_never_take_more_than_the_budget() {
        let budget = ByteBudget::new(100 * SMALL);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let shares: Vec<_> = (0..20).filter_map(|_| budget.take(SMALL)).collect();
                        assert!(budget.used() <= budget.limit());
                        drop(shares);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
