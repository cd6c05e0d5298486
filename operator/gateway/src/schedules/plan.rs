//! What a manifest's schedule means: its expression, its time zone, and what its events get.
//!
//! `pilotlight local` refuses what cannot be read here, and a cluster's gateway says it in the status.

use std::fmt;

use pilotlight_api::ScheduleSpec;
use pilotlight_core::events::retry::{EventPolicy, EventTime};
use pilotlight_events::schedule::{Expression, SchedulePlan, Zone};

use super::deployment::ScheduleDeployment;

/// A field whose form is right, and whose value means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSchedule {
    pub field: &'static str,
    pub why: String,
}

impl fmt::Display for WrongSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// # Errors
/// If the expression or the time zone is wrong.
pub fn check_schedule(spec: &ScheduleSpec) -> Result<(), WrongSchedule> {
    read(spec).map(drop)
}

fn read(spec: &ScheduleSpec) -> Result<(Expression, Zone), WrongSchedule> {
    let wrong = |field, error: &dyn ToString| WrongSchedule {
        field,
        why: error.to_string(),
    };
    let expression = spec.schedule.as_str().parse();
    let expression: Expression = expression.map_err(|error| wrong("spec.schedule", &error))?;
    let zone = match &spec.time_zone {
        Some(name) => Zone::parse(name.as_str()).map_err(|error| wrong("spec.timeZone", &error))?,
        None => Zone::utc(),
    };
    Ok((expression, zone))
}

/// `begin`: when the schedule was made. `function`: what its function declares of its events.
pub(super) fn plan(
    schedule: &ScheduleDeployment,
    begin: EventTime,
    function: EventPolicy,
) -> Result<SchedulePlan, WrongSchedule> {
    let spec = &schedule.spec;
    let (expression, zone) = read(spec)?;
    let whole = |time: EventTime| EventTime(time.0 / 1000 * 1000);
    let start = spec.start.map_or(begin, |start| start.event_time());
    let max_age = spec.asynchronous.max_age.map(|age| age.duration());
    Ok(SchedulePlan {
        id: schedule.id.uid.clone(),
        expression,
        zone,
        start: whole(start),
        end: spec.end.map(|end| end.event_time()),
        jitter: spec.jitter.duration(),
        max_age: max_age.unwrap_or(function.max_age),
    })
}
