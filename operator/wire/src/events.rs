//! `/pilotlight/v1/functions/{name}/events`: the events of a function that have not ended, for `pilotlight events`.

use serde::{Deserialize, Serialize};

/// What a function's queue has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsSummary {
    /// Events that have not ended, those under way among them.
    pub count: u64,
    /// Absent: the queue does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// When the oldest of them was accepted, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// When the next attempt is due, in milliseconds since 1970. Absent: no event waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// Events that have failed for good, and can be replayed.
    #[serde(default)]
    pub dead: u64,
    /// When the oldest of them ended, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_dead: Option<u64>,
}

/// How many dead letters have become events again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReplayed {
    pub replayed: u64,
}

/// How many events were removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsPurged {
    pub purged: u64,
}
