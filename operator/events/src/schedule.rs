//! When a schedule is due: its expression, its time zone, and which missed times still count.
//!
//! ```text
//! expression: cron, rate, at ─► SchedulePlan: start, end, jitter ─► SchedulePlan::due(last, now): what to send, what was missed
//!                                              └─► firing: what to store and what to send ─► records
//! ```
//!
//! Times are in milliseconds since 1970, and whole seconds. It sends nothing: whoever asks says what was stored last.

mod expression;
pub mod firing;
pub mod records;
#[cfg(test)]
mod tests;
mod zone;

use std::time::Duration;

use pilotlight_core::events::retry::EventTime;
use sha2::{Digest, Sha256};

pub use self::expression::{Expression, InvalidExpression};
pub use self::zone::{InvalidZone, Zone};

/// How many missed times are counted, roughly, at most.
const COUNTED: u64 = 10_000;

/// An event is sent this long before the next time at least.
const LEAST_GAP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Debug)]
pub struct SchedulePlan {
    /// Names the schedule. Two schedules with the same expression spread their events differently.
    pub id: String,
    pub expression: Expression,
    pub zone: Zone,
    /// The schedule has no time before this one. Rates are counted from it.
    pub start: EventTime,
    /// The schedule has no time after this one.
    pub end: Option<EventTime>,
    /// An event is sent up to this long after its time and before the next one, so that not all schedules of an hour send at
    /// once.
    pub jitter: Duration,
    /// A missed time counts for this long.
    pub max_age: Duration,
}

/// One time of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The time in the schedule. The event's id is made from it, so that there is one event for it.
    pub time: EventTime,
    /// When the event is sent: the time with its jitter.
    pub at: EventTime,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Send this one now. It is the latest one whose moment has come.
    pub send: Option<Occurrence>,
    /// How many earlier ones nobody has sent. They are never sent.
    pub missed: u64,
    /// The latest of those.
    pub last_missed: Option<EventTime>,
    /// The latest one that is sent or missed.
    pub passed: Option<Occurrence>,
    /// What comes after these. `None`: the schedule has no further time.
    pub next: Option<Occurrence>,
}

impl SchedulePlan {
    /// What is due at `now`, if `last` was the last time that was sent or missed. `None`: there was none yet.
    ///
    /// Of several times that have passed the latest one counts, for as long as it is not older than `max_age`. So a
    /// schedule that stood still for a day sends one event, and not one for each minute of it.
    pub fn due(&self, last: Option<EventTime>, now: EventTime) -> Due {
        let mut due = Due {
            send: None,
            missed: 0,
            last_missed: None,
            passed: None,
            next: self.after(last),
        };
        let mut counted = 0;
        while let Some(next) = due.next
            && next.at <= now
        {
            if let Some(earlier) = due.send.replace(next) {
                due.missed += 1;
                due.last_missed = Some(earlier.time);
            }
            due.passed = Some(next);
            counted += 1;
            let mut last = next.time;
            if counted == COUNTED {
                // A schedule of each minute that stood still for months: those that no longer count are not counted either.
                let count_for = self.max_age + self.jitter;
                let millis = u64::try_from(count_for.as_millis()).unwrap_or(u64::MAX);
                last = last.max(EventTime(now.0.saturating_sub(millis)));
            }
            due.next = self.after(Some(last));
        }
        if let Some(send) = due.send
            && now.since(send.at) > self.max_age
        {
            due.send = None;
            due.missed += 1;
            due.last_missed = Some(send.time);
        }
        due
    }

    /// The first time after `last`.
    pub fn next_after(&self, last: Option<EventTime>) -> Option<EventTime> {
        self.after(last).map(|next| next.time)
    }

    fn after(&self, last: Option<EventTime>) -> Option<Occurrence> {
        // The start itself may be a time of the schedule.
        let before_start = EventTime(self.start.0.saturating_sub(1));
        let last = last.map_or(before_start, |last| last.max(before_start));
        let time = self.expression.after(last, &self.zone, self.start)?;
        if self.end.is_some_and(|end| time > end) {
            return None;
        }
        Some(Occurrence {
            time,
            at: time.after(self.jitter_of(time)),
        })
    }

    /// The same for the same time, whoever asks: several gateways, and the next one.
    fn jitter_of(&self, time: EventTime) -> Duration {
        if self.jitter.is_zero() {
            return Duration::ZERO;
        }
        let next = self.expression.after(time, &self.zone, self.start);
        let room = next.map_or(self.jitter, |next| next.since(time));
        let seconds = self.jitter.min(room.saturating_sub(LEAST_GAP)).as_secs();
        if seconds == 0 {
            return Duration::ZERO;
        }
        let mut hash = Sha256::new();
        hash.update(self.id.as_bytes());
        hash.update(time.0.to_be_bytes());
        let hash = hash.finalize();
        let number = hash[..8]
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Duration::from_secs(number % (seconds + 1))
    }
}
