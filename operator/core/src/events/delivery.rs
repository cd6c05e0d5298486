//! What becomes of an event that has ended: its record goes to a destination, or the event becomes a dead letter.
//!
//! An event that has ended never runs again because of its destination. Its record is sent with a backoff until the destination
//! has it, or until [`DELIVERY_LIMIT`] has passed since the end. A failed event that no destination has got is a dead letter.

use std::time::Duration;

use super::retry::{EventEnd, EventTime, Progress};

/// For how long after the end of an event its record is sent: as long as the oldest event may be.
pub const DELIVERY_LIMIT: Duration = Duration::from_secs(21_600);

/// What follows the end of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterEnd {
    /// Nobody asks for it any more.
    Gone,
    /// Its record goes to the function's destination.
    Deliver,
    /// It is kept, so that somebody can replay it.
    Dead,
}

/// How an attempt went to send the record of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Delivered,
    /// It may work later.
    Failed,
    /// The destination will not take this record at any time.
    Refused,
}

/// What follows such an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDelivery {
    Delivered,
    /// The record is sent again at this time.
    Again(EventTime),
    /// The destination does not get it. The event becomes a dead letter if it had failed.
    GivenUp {
        is_dead: bool,
    },
}

impl EventEnd {
    /// `has_destination`: whether the function declares one for such an end.
    pub fn then(self, has_destination: bool) -> AfterEnd {
        match self {
            _ if has_destination => AfterEnd::Deliver,
            EventEnd::Success => AfterEnd::Gone,
            _ => AfterEnd::Dead,
        }
    }
}

impl Progress {
    /// The progress of an event that has just ended: its deliveries have a backoff of their own.
    #[must_use]
    pub fn to_deliver(self) -> Self {
        Progress {
            refusals: 0,
            ..self
        }
    }

    /// Counts an attempt to send the record of an event that ended so, at `ended`.
    pub fn after_delivery(
        &mut self,
        delivery: Delivery,
        (end, ended): (EventEnd, EventTime),
        now: EventTime,
        random: u32,
    ) -> AfterDelivery {
        let given_up = AfterDelivery::GivenUp {
            is_dead: end != EventEnd::Success,
        };
        let limit = ended.after(DELIVERY_LIMIT);
        match delivery {
            Delivery::Delivered => AfterDelivery::Delivered,
            Delivery::Refused => given_up,
            Delivery::Failed if now >= limit => given_up,
            // The last attempt is at the limit.
            Delivery::Failed => {
                AfterDelivery::Again(now.after(self.refused(random)).min(limit).max(now))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: EventTime = EventTime(1_000_000);

    fn failed(progress: &mut Progress, now: EventTime) -> AfterDelivery {
        let ended = (EventEnd::RetriesExhausted, START);
        progress.after_delivery(Delivery::Failed, ended, now, u32::MAX)
    }

    #[test]
    fn what_follows_an_end_depends_on_the_end_and_the_destination() {
        for end in EventEnd::ALL {
            assert_eq!(end.then(true), AfterEnd::Deliver);
            let without = match end {
                EventEnd::Success => AfterEnd::Gone,
                _ => AfterEnd::Dead,
            };
            assert_eq!(end.then(false), without);
        }
    }

    #[test]
    fn a_record_is_sent_with_a_backoff_until_the_limit() {
        let mut progress = Progress {
            failures: 3,
            refusals: 9,
            ..Progress::new(START)
        }
        .to_deliver();
        let (mut now, mut pauses) = (START, Vec::new());
        while let AfterDelivery::Again(due) = failed(&mut progress, now) {
            pauses.push(due.since(now).as_secs());
            now = due;
        }
        assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(now, START.after(DELIVERY_LIMIT), "the last attempt");
        let dead = AfterDelivery::GivenUp { is_dead: true };
        assert_eq!(failed(&mut progress, now), dead);
        assert_eq!(
            progress.failures, 3,
            "attempts of the function are other ones"
        );
    }

    #[test]
    fn a_record_that_is_refused_is_not_sent_again_and_a_success_is_no_dead_letter() {
        for (end, is_dead) in [
            (EventEnd::Success, false),
            (EventEnd::RetriesExhausted, true),
            (EventEnd::EventAgeExceeded, true),
            (EventEnd::ZeroReservedConcurrency, true),
        ] {
            let mut progress = Progress::new(START);
            let ended = (end, START);
            let after = progress.after_delivery(Delivery::Refused, ended, START, 0);
            assert_eq!(after, AfterDelivery::GivenUp { is_dead });
            let after = progress.after_delivery(Delivery::Delivered, ended, START, 0);
            assert_eq!(after, AfterDelivery::Delivered);
        }
    }
}
