//! The status of a function or a warm pool: counts, conditions, refusals, and the events of a change.
//!
//! Pure: the status follows from the pods, the demand and what went wrong. `tracked` asks for it and writes
//! it when it has changed. People read the conditions and events, gateways read the refusals.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::{Event, EventType};
use pilotlight_api::pod_state::{Cause, PodState};
use pilotlight_api::status::{
    CODE_NOT_STORED, FunctionStatus, NOT_READABLE, POD_REFUSED, PodRefusal, READABLE, READY,
    RefusalScope, WarmPoolStatus,
};
use pilotlight_api::{FunctionSpec, ObjectName};
use pilotlight_core::fleet::fit::{self, Class, Misfit, Served};
use pilotlight_core::fleet::stock::Count;
use pilotlight_core::function::Handler;
use pilotlight_core::gateways::demand::Demand;
use pilotlight_watch::Unreadable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::Unbuildable;
use crate::metrics::PodPhase;

/// The length of an event's note in characters. The API server accepts 1 kB.
const NOTE_LENGTH: usize = 250;

/// The reasons of `Ready` while nothing is wrong. A change between them is no event: a pool is filled again
/// after every claim.
const HEALTHY: [&str; 3] = [SERVING, FULL, FILLING];
const SERVING: &str = "Serving";
const FULL: &str = "Full";
const FILLING: &str = "Filling";

/// What the statuses of all kinds have.
pub(crate) trait Status:
    Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    fn conditions(&self) -> &[Condition];

    /// Adds what `tracked` reports for every kind to the counts of this one.
    fn report(
        &mut self,
        generation: Option<i64>,
        conditions: Vec<Condition>,
        refusals: Vec<PodRefusal>,
    );
}

impl Status for FunctionStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn report(
        &mut self,
        generation: Option<i64>,
        conditions: Vec<Condition>,
        refusals: Vec<PodRefusal>,
    ) {
        self.observed_generation = generation;
        self.conditions = conditions;
        self.refusals = refusals;
    }
}

impl Status for WarmPoolStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Nobody waits for a certain pod of a warm pool, so its status has no refusals.
    fn report(&mut self, generation: Option<i64>, conditions: Vec<Condition>, _: Vec<PodRefusal>) {
        self.observed_generation = generation;
        self.conditions = conditions;
    }
}

/// What keeps a function from being served, or a pool from being full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Unbuildable(Unbuildable),
    /// The API server refuses these pods, with this message.
    Refused {
        pods: Vec<String>,
        message: String,
    },
    /// The API server did not accept the code.
    Code(String),
    /// Pods end before they are claimed.
    Ending,
}

/// Why a pod does not come up. The message names the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    reason: String,
    message: String,
}

/// Everything that is wrong with one resource.
pub(crate) struct Problems<'a> {
    pub(crate) trouble: Option<&'a Trouble>,
    pub(crate) stuck: Option<&'a Stuck>,
    /// Why the present spec cannot be read.
    pub(crate) unreadable: Option<&'a Unreadable>,
}

impl Trouble {
    fn reason(&self) -> &'static str {
        match self {
            Trouble::Unbuildable(why) => why.reason(),
            Trouble::Refused { .. } => POD_REFUSED,
            Trouble::Code(_) => CODE_NOT_STORED,
            Trouble::Ending => "PodsEnd",
        }
    }

    fn message(&self) -> String {
        match self {
            Trouble::Unbuildable(why) => why.to_string(),
            Trouble::Refused { message, .. } => message.clone(),
            Trouble::Code(message) => format!("the inline code cannot be stored: {message}"),
            Trouble::Ending => {
                "many pods ended unclaimed within a minute, so no more are made for a minute: check \
                 that the image is one of an instance, and that its nodes have memory"
                    .to_owned()
            }
        }
    }

    /// The message of the condition, which names the pods. Gateways of the release before this one look
    /// for their own pod in it.
    fn message_for_people(&self) -> String {
        match self {
            Trouble::Refused { pods, message } => format!("{}: {message}", pods.join(", ")),
            _ => self.message(),
        }
    }

    /// The same for gateways.
    fn refusal(&self) -> PodRefusal {
        let (scope, pods) = match self {
            Trouble::Refused { pods, .. } => (RefusalScope::Pods, pods.clone()),
            Trouble::Unbuildable(_) | Trouble::Code(_) | Trouble::Ending => {
                (RefusalScope::Function, Vec::new())
            }
        };
        PodRefusal {
            scope,
            pods,
            reason: self.reason().to_owned(),
            message: self.message(),
        }
    }
}

impl Problems<'_> {
    /// Why pods of the present spec are not made.
    pub(crate) fn refusals(&self) -> Vec<PodRefusal> {
        let unreadable = self.unreadable.map(|why| PodRefusal {
            scope: RefusalScope::Function,
            pods: Vec::new(),
            reason: NOT_READABLE.to_owned(),
            message: explain(why),
        });
        let trouble = self.trouble.map(Trouble::refusal);
        unreadable.into_iter().chain(trouble).collect()
    }

    fn health(&self) -> Option<Health> {
        if let Some(trouble) = self.trouble {
            return Some(Health::bad(trouble.reason(), trouble.message_for_people()));
        }
        let stuck = self.stuck?;
        Some(Health::bad(&stuck.reason, stuck.message.clone()))
    }
}

/// What is wrong with the field and what to do. The list of all fields that this version knows is left out,
/// because it would push the remedy out of an event's note.
fn explain(Unreadable { field, message, .. }: &Unreadable) -> String {
    let wrong = message.split(", expected").next().unwrap_or(message);
    format!(
        "{field}: {wrong}. The controller's version cannot read this: upgrade Pilotlight, or change the field. \
         Until then the last spec that it could read stays in force"
    )
}

/// What a condition says.
pub(crate) struct Health {
    status: &'static str,
    reason: String,
    message: String,
}

impl Health {
    fn good(reason: &str, message: &str) -> Self {
        Health {
            status: "True",
            ..Health::bad(reason, message.to_owned())
        }
    }

    fn bad(reason: &str, message: String) -> Self {
        Health {
            status: "False",
            reason: reason.to_owned(),
            message,
        }
    }

    /// A function without problems.
    pub(crate) fn serving() -> Self {
        Health::good(SERVING, "events are served")
    }

    /// No spec of the resource was ever readable.
    pub(crate) fn unknown() -> Self {
        let message = "no spec of it could be read so far: see the condition Readable".to_owned();
        Health::bad(NOT_READABLE, message)
    }
}

/// The conditions of the status. `before`: those that the API server has. `health`: what `Ready` says while
/// nothing is wrong.
pub(crate) fn conditions(
    before: &[Condition],
    generation: Option<i64>,
    health: Health,
    problems: &Problems<'_>,
) -> Vec<Condition> {
    let ready = problems.health().unwrap_or(health);
    let ready = condition(READY, before, generation, ready);
    let readable = problems.unreadable.map(|why| {
        let health = Health::bad(NOT_READABLE, explain(why));
        condition(READABLE, before, generation, health)
    });
    [ready].into_iter().chain(readable).collect()
}

/// A condition keeps its time of transition while its status stays the same.
fn condition(
    type_: &str,
    before: &[Condition],
    generation: Option<i64>,
    health: Health,
) -> Condition {
    let same = find(before, type_).filter(|before| before.status == health.status);
    let since = same.map(|before| before.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: health.status.to_owned(),
        reason: health.reason,
        message: health.message,
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| Time(now())),
    }
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|one| one.type_ == type_)
}

/// The time in whole seconds, as the API server keeps it: what it shows is then what was written.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The events of the change from one status to the next, for `kubectl describe`.
pub(crate) fn events(
    before: &[Condition],
    now: &[Condition],
    problems: &Problems<'_>,
) -> Vec<Event> {
    let readiness = readiness_event(find(before, READY), find(now, READY), problems);
    let readability = readability_event(find(before, READABLE), find(now, READABLE));
    readiness.into_iter().chain(readability).collect()
}

fn readiness_event(
    before: Option<&Condition>,
    now: Option<&Condition>,
    problems: &Problems<'_>,
) -> Option<Event> {
    let now = now?;
    let is_ready = now.status == "True";
    let is_news = match (before, problems.health()) {
        (before, Some(_)) => before.is_none_or(|before| before.reason != now.reason),
        (Some(before), None) => is_ready && !HEALTHY.contains(&before.reason.as_str()),
        (None, None) => false,
    };
    let (type_, action) = match is_ready {
        true => (EventType::Normal, "Serve"),
        false => (EventType::Warning, "Start"),
    };
    is_news.then(|| event(type_, action, now))
}

/// Once for each generation that cannot be read, however often it is listed.
fn readability_event(before: Option<&Condition>, now: Option<&Condition>) -> Option<Event> {
    let now = now?;
    let is_news = before.is_none_or(|before| before.observed_generation != now.observed_generation);
    is_news.then(|| event(EventType::Warning, "Read", now))
}

fn event(type_: EventType, action: &str, condition: &Condition) -> Event {
    Event {
        type_,
        reason: condition.reason.clone(),
        note: Some(condition.message.chars().take(NOTE_LENGTH).collect()),
        action: action.to_owned(),
        secondary: None,
    }
}

/// The counts of a function.
pub(crate) fn of_function<'a>(
    handler: Option<&Handler>,
    pods: impl Iterator<Item = &'a Pod>,
    demands: &[&Demand],
    warm_pool: String,
) -> FunctionStatus {
    let living: Vec<PodState> = pods.map(PodState::of).filter(PodState::is_living).collect();
    FunctionStatus {
        handler: handler.map_or_else(String::new, Handler::to_string),
        instances: living.len(),
        ready: living.iter().filter(|state| state.is_ready()).count(),
        in_flight: demands.iter().map(|demand| demand.in_flight).sum(),
        queued: demands.iter().map(|demand| demand.queued).sum(),
        events: demands.iter().map(|demand| demand.events).sum(),
        warm_pool,
        ..FunctionStatus::default()
    }
}

/// The counts of a pool, and how it is filled. `claims`: all that were ever counted.
pub(crate) fn of_warm_pool(count: Count, claims: u64) -> (WarmPoolStatus, Health) {
    let (wanted, ready) = (count.wanted, count.ready);
    let health = match ready >= wanted {
        true => Health::good(FULL, "as many instances wait as are wanted"),
        false => Health::bad(FILLING, format!("{ready} of {wanted} instances are ready")),
    };
    let status = WarmPoolStatus {
        wanted,
        ready,
        claimed: count.claimed,
        claims,
        refilling: count.refilling,
        ..WarmPoolStatus::default()
    };
    (status, health)
}

/// The pool that serves the function, or why there is none.
/// `default`: the runtime class of functions that name none.
pub(crate) fn warm_pool(
    spec: &FunctionSpec,
    pools: &[(Class, String)],
    default: Option<&ObjectName>,
) -> String {
    match fit::served(&spec.needs(default), pools) {
        Served::By(name) => name.to_owned(),
        Served::OwnPod(field) => format!("none: {field} needs pods of its own"),
        Served::Nearly(name, misfits) => {
            let fields = misfits.iter().map(|misfit| match misfit {
                Misfit::Memory => format!("{} ({})", misfit.field(), spec.memory),
                Misfit::EphemeralStorage => {
                    format!("{} ({})", misfit.field(), spec.ephemeral_storage)
                }
                misfit => misfit.field().to_owned(),
            });
            let fields = Vec::from_iter(fields).join(", ");
            format!("none: the nearest WarmPool, {name}, does not match {fields}")
        }
        Served::NoPool => format!("none: no WarmPool of {}", spec.runtime),
    }
}

/// The state of a pod in the metrics.
pub(crate) fn phase(pod: &Pod) -> PodPhase {
    match PodState::of(pod) {
        PodState::Ended(_) | PodState::Terminating => PodPhase::ending,
        state if state.is_ready() => PodPhase::ready,
        _ => PodPhase::starting,
    }
}

/// Why one of the living pods does not come up.
pub(crate) fn stuck<'a>(mut pods: impl Iterator<Item = &'a Pod>) -> Option<Stuck> {
    pods.find_map(|pod| match PodState::of(pod) {
        PodState::Stuck(Cause { reason, message }) => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message = format!("{name}: {message}");
            Some(Stuck { reason, message })
        }
        _ => None,
    })
}
