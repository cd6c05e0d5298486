//! The status of a Function and of a WarmPool: what the controller reports; and of a Schedule: what its gateway reports.
//!
//! Owns the fields, the types of conditions and their reasons. The controller writes a status, gateways and
//! people read it. Every reader ignores fields that it does not know and tolerates absent ones: during an
//! upgrade the other side has another version. `resource` attaches a status to its resource.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of the condition that says whether a function serves events, or whether a pool is full.
pub const READY: &str = "Ready";
/// The type of the condition that says whether the controller can read the spec. It is present only while
/// the controller cannot.
pub const READABLE: &str = "Readable";

/// The API server refuses some pods.
pub const POD_REFUSED: &str = "PodRefused";
/// The form of the code exists in local mode only.
pub const CODE_NOT_SUPPORTED: &str = "CodeNotSupported";
/// The spec names a Secret that belongs to Pilotlight itself.
pub const SECRET_REFUSED: &str = "SecretRefused";
/// The controller has no image for the runtime.
pub const NO_IMAGE: &str = "NoImage";
/// The API server did not accept the config map of the inline code.
pub const CODE_NOT_STORED: &str = "CodeNotStored";
/// The controller cannot read the spec of this generation.
pub const NOT_READABLE: &str = "NotReadable";

/// The schedule has times to come.
pub const SCHEDULED: &str = "Scheduled";
/// The schedule has no time any more.
pub const NO_FURTHER_TIME: &str = "NoFurtherTime";
/// `spec.suspend` is true.
pub const SUSPENDED: &str = "Suspended";
/// The expression or the time zone is wrong.
pub const INVALID_SCHEDULE: &str = "InvalidSchedule";
/// There is no function of this name.
pub const FUNCTION_NOT_FOUND: &str = "FunctionNotFound";
/// The gateways have no event queue.
pub const NO_EVENT_QUEUE: &str = "NoEventQueue";
/// The event queue did not take the last event, or cannot be asked.
pub const QUEUE_UNAVAILABLE: &str = "QueueUnavailable";

/// What the controller reports about a function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// Why pods of that generation are not made. The condition `Ready` says the same to people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<PodRefusal>,
    /// The entry point: the function's own or its runtime's default.
    pub handler: String,
    /// Pods that live.
    pub instances: usize,
    /// Living pods that accept events.
    pub ready: usize,
    pub in_flight: usize,
    pub queued: usize,
    /// Events of asynchronous calls that have not ended.
    pub events: usize,
    /// The warm pool that the function's instances may come from; `none` and the reason if there is none.
    pub warm_pool: String,
}

/// What the controller reports about a warm pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WarmPoolStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// Unclaimed instances that the pool aims at: the claims of the last 30 s, between `size` and `max`.
    pub wanted: usize,
    /// Instances that can be claimed.
    pub ready: usize,
    /// Claimed instances that do not bear their function's labels yet.
    pub claimed: usize,
    /// All claims so far. A claim that is made while the leading controller changes may count twice.
    pub claims: u64,
    /// Instances that are wanted and not ready yet.
    pub refilling: usize,
}

/// What the gateway reports that owns the function of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// The last time of the schedule whose event is in the event queue, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// The next time of the schedule. With jitter its event comes later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// How many times had no event because they were too old when one could be sent, or a later one was due by then.
    pub missed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed_time: Option<Time>,
}

/// Why the controller makes no pod of a function, or could not make some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodRefusal {
    pub scope: RefusalScope,
    /// The names of the refused pods, at most 200; only with scope `Pods`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// One word, the same as in the condition.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Which pods a refusal concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefusalScope {
    /// The named pods. A name that is not there is not refused, or not refused any more.
    Pods,
    /// All pods of the function.
    Function,
    /// A scope of a later version. It concerns no pod as far as this version can tell.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl PodRefusal {
    /// Whether this refusal is the reason why the pod of this name is not there.
    pub fn concerns(&self, pod: &str) -> bool {
        match self.scope {
            RefusalScope::Pods => self.pods.iter().any(|name| name == pod),
            RefusalScope::Function => true,
            RefusalScope::Unknown => false,
        }
    }
}
