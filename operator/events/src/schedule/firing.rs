//! What is next for a schedule: one event for each of its times, whoever asks.
//!
//! ```text
//! stored record ─► next_step ─► store this record │ send this time's event │ wait until then
//! ```
//!
//! The record is stored before an event is sent, and again afterwards. If whoever sends ends in between, nobody knows whether
//! the queue has the event: it is sent again under the same id, for as long as the queue drops a duplicate. After that the time
//! counts as missed, so that no time ever has two events. It has no clock, and stores and sends nothing itself.

use std::time::Duration;

use pilotlight_core::events::derived;
use pilotlight_core::events::retry::EventTime;
use serde::{Deserialize, Serialize};

use super::{Due, SchedulePlan};
use crate::queue::DUPLICATE_WINDOW;

/// How far the clocks of two gateways may differ.
pub const CLOCK_DIFFERENCE: Duration = Duration::from_secs(30);
/// For how long the same event may be sent again. The rest of the window is for clocks that differ, and for a request that is
/// under way.
pub const RESEND_LIMIT: Duration = Duration::from_secs(240);
const _: () =
    assert!(RESEND_LIMIT.as_secs() + CLOCK_DIFFERENCE.as_secs() < DUPLICATE_WINDOW.as_secs());

/// What is stored of a schedule. Readers ignore fields that they do not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleRecord {
    /// When the schedule was first seen.
    pub seen: Option<EventTime>,
    /// By what it is due: its times are those of another schedule when this changes.
    pub timing: String,
    pub is_suspended: bool,
    /// The last time that was sent or missed. Only later ones count.
    pub last: Option<EventTime>,
    /// The last time that was sent.
    pub sent: Option<EventTime>,
    /// The last time that was missed.
    pub last_missed: Option<EventTime>,
    /// How many times were missed.
    pub missed: u64,
    /// The event that is being sent. It may be in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sending: Option<Sending>,
}

/// An event that is being sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sending {
    /// The time in the schedule.
    pub time: EventTime,
    /// When it was due.
    pub at: EventTime,
    /// When this was stored.
    pub since: EventTime,
    /// Who has stored it.
    pub by: String,
    /// What [`ScheduleRecord::last`] was before.
    pub before: Option<EventTime>,
    /// How many times before this one were missed, and the last of them.
    pub missed: u64,
    pub last_missed: Option<EventTime>,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleStep {
    /// Store the record, then ask again with it.
    Store(ScheduleRecord),
    /// Send the event of this time, then store [`ScheduleRecord::sent`] or [`ScheduleRecord::refused`].
    Send(Sending),
    /// Nothing is to be done before this time. `None`: nothing ever, unless the schedule changes.
    Wait(Option<EventTime>),
}

/// Who asks, and what they know besides the record.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleSender<'a> {
    /// One name for each process.
    pub name: &'a str,
    /// The time whose event this process has sent last, or tried to.
    pub tried: Option<EventTime>,
}

impl SchedulePlan {
    /// By what the schedule is due.
    pub fn timing(&self) -> String {
        let end = self.end.map_or(String::new(), |end| end.0.to_string());
        format!(
            "{}|{}|{}|{end}",
            self.expression,
            self.zone.name(),
            self.start.0
        )
    }

    /// What is next at `now`. `record`: what was stored last, if anything was. `is_on`: the schedule is not suspended.
    pub fn next_step(
        &self,
        record: Option<&ScheduleRecord>,
        is_on: bool,
        sender: ScheduleSender<'_>,
        now: EventTime,
    ) -> ScheduleStep {
        let Some(record) = record else {
            return ScheduleStep::Store(self.first_record(None, is_on, now));
        };
        if let Some(sending) = &record.sending {
            let is_untried = sending.by == sender.name && sender.tried != Some(sending.time);
            if is_untried && !is_recent(sending, now) {
                // Nobody has sent it. It is due again, if it still counts.
                return ScheduleStep::Store(record.refused());
            }
            return match is_recent(sending, now) {
                true => ScheduleStep::Send(sending.clone()),
                false => ScheduleStep::Store(record.lost(sending)),
            };
        }
        if !is_on {
            return match record.is_suspended {
                true => ScheduleStep::Wait(None),
                false => ScheduleStep::Store(ScheduleRecord {
                    is_suspended: true,
                    ..record.clone()
                }),
            };
        }
        let timing = self.timing();
        if record.is_suspended || record.timing != timing {
            // Times before this moment belong to the schedule as it was, or to none.
            return ScheduleStep::Store(ScheduleRecord {
                timing,
                is_suspended: false,
                last: record.last.max(Some(now)),
                ..record.clone()
            });
        }
        let Due {
            send,
            missed,
            last_missed,
            passed,
            next,
        } = self.due(record.last, now);
        if let Some(send) = send {
            return ScheduleStep::Store(ScheduleRecord {
                last: Some(send.time),
                sending: Some(Sending {
                    time: send.time,
                    at: send.at,
                    since: now,
                    by: sender.name.to_owned(),
                    before: record.last,
                    missed,
                    last_missed,
                }),
                ..record.clone()
            });
        }
        match passed {
            Some(passed) => ScheduleStep::Store(ScheduleRecord {
                last: Some(passed.time),
                last_missed: last_missed.or(record.last_missed),
                missed: record.missed.saturating_add(missed),
                ..record.clone()
            }),
            None => ScheduleStep::Wait(next.map(|next| next.at)),
        }
    }

    /// The record of a schedule that has none. `sent`: the last time that was sent, if somebody else knows it.
    pub fn first_record(
        &self,
        sent: Option<EventTime>,
        is_on: bool,
        now: EventTime,
    ) -> ScheduleRecord {
        let count_for = (self.max_age + self.jitter).as_millis();
        let oldest = now
            .0
            .saturating_sub(u64::try_from(count_for).unwrap_or(u64::MAX));
        // What is older could not be sent any more, and it may have been.
        let forgotten = (oldest > self.start.0).then_some(EventTime(oldest));
        ScheduleRecord {
            seen: Some(now),
            timing: self.timing(),
            is_suspended: !is_on,
            last: sent.max(forgotten),
            sent,
            ..ScheduleRecord::default()
        }
    }
}

fn is_recent(sending: &Sending, now: EventTime) -> bool {
    now.after(CLOCK_DIFFERENCE) >= sending.since && now.since(sending.since) < RESEND_LIMIT
}

impl ScheduleRecord {
    /// The queue has the event.
    pub fn sent(&self) -> Self {
        let Some(sending) = &self.sending else {
            return self.clone();
        };
        ScheduleRecord {
            sent: Some(sending.time),
            last_missed: sending.last_missed.or(self.last_missed),
            missed: self.missed.saturating_add(sending.missed),
            sending: None,
            ..self.clone()
        }
    }

    /// The queue does not have the event, and nobody may have sent it: it is due as before.
    pub fn refused(&self) -> Self {
        let Some(sending) = &self.sending else {
            return self.clone();
        };
        ScheduleRecord {
            last: sending.before,
            sending: None,
            ..self.clone()
        }
    }

    /// Nobody knows whether the queue has the event, and sending it again could make two.
    fn lost(&self, sending: &Sending) -> Self {
        ScheduleRecord {
            last_missed: Some(sending.time),
            missed: self.missed.saturating_add(sending.missed + 1),
            sending: None,
            ..self.clone()
        }
    }
}

/// The request id of the event of one time: the same for everybody, and no other schedule's.
pub fn event_id(schedule: &str, time: EventTime) -> String {
    derived::request_id(&["schedule", schedule, &time.0.to_string()])
}
