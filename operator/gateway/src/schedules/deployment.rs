//! A schedule of manifests or of a cluster, as the gateway has it.

use pilotlight_api::ScheduleSpec;
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::function::FunctionName;
use pilotlight_events::schedule::records::ScheduleId;

/// A schedule as this gateway has learned of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleDeployment {
    pub id: ScheduleId,
    pub name: FunctionName,
    /// What says when the schedule was made. `None`: when it was first seen.
    pub created: Option<EventTime>,
    pub generation: Option<i64>,
    pub spec: ScheduleSpec,
    /// What was reported of it before, maybe by another gateway.
    pub shown: ScheduleTimes,
}

/// What has become of a schedule's times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleTimes {
    /// The last one that was sent.
    pub last: Option<EventTime>,
    pub next: Option<EventTime>,
    pub missed: u64,
    pub last_missed: Option<EventTime>,
}
