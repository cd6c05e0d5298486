//! Schedules: their expressions and time zones, and the records that are stored about them.
//!
//! Whatever is read has times that only grow. A record leads to a next step, each step stores a record that can be read again,
//! and after a few of them nothing is to be done.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pilotlight_core::events::retry::EventTime;
use pilotlight_events::schedule::firing::{ScheduleRecord, ScheduleSender, ScheduleStep};
use pilotlight_events::schedule::{Expression, SchedulePlan, Zone};

const START: EventTime = EventTime(1_800_000_000_000);

fuzz_target!(|text: &[u8]| {
    // An expression, a zone, and a record, each a line.
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let Ok(expression) = line().parse::<Expression>() else {
        return;
    };
    let zone = Zone::parse(line()).unwrap_or_else(|_| Zone::utc());
    let plan = SchedulePlan {
        id: "schedule".to_owned(),
        expression,
        zone,
        start: START,
        end: None,
        jitter: Duration::from_secs(90),
        max_age: Duration::from_secs(3600),
    };
    let mut last = None;
    for _ in 0..5 {
        let next = plan.next_after(last);
        assert!(next.is_none_or(|next| Some(next) > last && next >= START));
        let Some(next) = next else { break };
        last = Some(next);
    }
    let mut record: Option<ScheduleRecord> = serde_json::from_str(line()).ok();
    let now = START.after(Duration::from_secs(90_000));
    let mut tried = None;
    for _ in 0..12 {
        let sender = ScheduleSender {
            name: "fuzz",
            tried,
        };
        record = match plan.next_step(record.as_ref(), true, sender, now) {
            ScheduleStep::Wait(_) => return,
            ScheduleStep::Store(record) => {
                let text = serde_json::to_string(&record).expect("plain data");
                let read: ScheduleRecord = serde_json::from_str(&text).expect("it was written");
                assert_eq!(read, record);
                Some(record)
            }
            ScheduleStep::Send(sending) => {
                tried = Some(sending.time);
                record.map(|record| record.sent())
            }
        };
    }
    panic!("there is always something to do: {record:?}");
});
