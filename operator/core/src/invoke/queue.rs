//! The invocations that wait for an instance, oldest first.
//!
//! Owns the bounds by bytes and by waiting time (rule 7). `pool` owns the bound by count, since only it
//! knows the instances. Payloads stay with the gateway: an entry is an id and a size.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Names an invocation within one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId(pub u64);

/// An invocation not yet handed to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub invocation: InvocationId,
    pub bytes: usize,
    /// When the pool rejects it if it still waits.
    pub deadline: Instant,
}

/// A first-in, first-out queue with bounds. All waiters have the same longest wait, so the first is also
/// the first to expire.
#[derive(Debug)]
pub struct Queue {
    waiters: VecDeque<Waiter>,
    bytes: usize,
    max_bytes: usize,
    max_wait: Duration,
}

impl Queue {
    /// `max_bytes`: the largest sum of payloads; `max_wait`: from arrival to rejection.
    pub fn new(max_bytes: usize, max_wait: Duration) -> Self {
        Queue {
            waiters: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_wait,
        }
    }

    pub fn waiter(&self, now: Instant, invocation: InvocationId, bytes: usize) -> Waiter {
        Waiter {
            invocation,
            bytes,
            deadline: now + self.max_wait,
        }
    }

    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= self.max_bytes
    }

    pub fn push(&mut self, waiter: Waiter) {
        self.bytes += waiter.bytes;
        self.waiters.push_back(waiter);
    }

    /// Puts back an invocation that never started, before those that arrived later.
    pub fn put_back(&mut self, waiter: Waiter) {
        self.bytes += waiter.bytes;
        let place = self
            .waiters
            .partition_point(|other| other.invocation < waiter.invocation);
        self.waiters.insert(place, waiter);
    }

    pub fn pop(&mut self) -> Option<Waiter> {
        let waiter = self.waiters.pop_front()?;
        self.bytes -= waiter.bytes;
        Some(waiter)
    }

    pub fn pop_expired(&mut self, now: Instant) -> Option<Waiter> {
        match self.waiters.front() {
            Some(first) if first.deadline <= now => self.pop(),
            _ => None,
        }
    }

    /// Removes an invocation whose caller has disconnected.
    pub fn remove(&mut self, invocation: InvocationId) -> Option<Waiter> {
        let place = self
            .waiters
            .iter()
            .position(|waiter| waiter.invocation == invocation)?;
        let waiter = self.waiters.remove(place)?;
        self.bytes -= waiter.bytes;
        Some(waiter)
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.waiters.front().map(|first| first.deadline)
    }

    /// How long the first waiter has waited.
    pub fn longest_wait(&self, now: Instant) -> Duration {
        let first = self.waiters.front();
        let left = first.map(|first| first.deadline.saturating_duration_since(now));
        left.map_or(Duration::ZERO, |left| self.max_wait.saturating_sub(left))
    }

    /// When the first waiter arrived.
    pub fn oldest(&self) -> Option<Instant> {
        self.waiters
            .front()
            .and_then(|first| first.deadline.checked_sub(self.max_wait))
    }

    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}
