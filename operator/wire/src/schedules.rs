//! `/pilotlight/v1/schedules`: the schedules with their times, for `pilotlight schedules`.

use serde::{Deserialize, Serialize};

/// All schedules, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleList {
    pub schedules: Vec<ScheduleLine>,
}

/// A schedule. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleLine {
    pub name: String,
    pub function: String,
    pub schedule: String,
    pub time_zone: String,
    /// The last time that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    #[serde(default)]
    pub missed: u64,
    /// Why it sends nothing, if it does not. Only the gateway that owns its function knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
