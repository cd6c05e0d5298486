//! `/pilotlight/v1/schedules`: the schedules of this gateway's functions, with their last and next times.
//!
//! In a cluster each gateway answers: for functions of others it says what their status said last. It changes nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pilotlight_core::access::{Resource, Verb};
use pilotlight_wire::schedules::{ScheduleLine, ScheduleList};

use super::access::allow;
use super::errors::ApiError;
use crate::access::Caller;
use crate::app::App;
use crate::schedules::ScheduleState;

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<ScheduleList>, ApiError> {
    allow(&app, &caller, Verb::List, Resource::Function, None).await?;
    let all = app.schedules.list().into_iter();
    let lines = all.map(|(schedule, report)| {
        let spec = schedule.spec;
        let times = report
            .as_ref()
            .map_or(schedule.shown, |report| report.times);
        let zone = spec.time_zone.as_ref().map_or("UTC", |zone| zone.as_str());
        ScheduleLine {
            name: schedule.name.to_string(),
            function: spec.function.to_string(),
            schedule: spec.schedule.as_str().to_owned(),
            time_zone: zone.to_owned(),
            last: times.last.map(|time| time.0),
            next: times.next.map(|time| time.0),
            missed: times.missed,
            trouble: report.and_then(|report| trouble(&report.state)),
        }
    });
    let mut schedules: Vec<ScheduleLine> = lines.collect();
    schedules.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(ScheduleList { schedules }))
}

fn trouble(state: &ScheduleState) -> Option<String> {
    let trouble = match state {
        ScheduleState::Scheduled => return None,
        ScheduleState::NoFurtherTime => "it has no further time",
        ScheduleState::Suspended => "it is suspended",
        ScheduleState::Invalid(wrong) => return Some(wrong.to_string()),
        ScheduleState::FunctionNotFound => "there is no such function",
        ScheduleState::NoQueue => "there is no event queue",
        ScheduleState::QueueUnavailable(_) => "the event queue cannot be used now",
    };
    Some(trouble.to_owned())
}
