//! How a function does, or a warm pool, as `kubectl get` and the conditions say it.
//!
//! Pure: the status follows from the pods, the demand and what went wrong. Fed by `function` and
//! `pool`, which have it written when it has changed.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::{Event, EventType};
use pilotlight_api::resource::{
    CODE_NOT_STORED, FunctionResource, FunctionStatus, POD_REFUSED, READY, WarmPoolResource,
    WarmPoolStatus,
};
use pilotlight_api::{Class, FunctionSpec};
use pilotlight_core::fleet::stock::Count;
use pilotlight_core::function::Handler;
use pilotlight_core::gateways::demand::Demand;

use super::build::Unbuildable;
use crate::metrics::PodState;

/// Characters of an event's note; the API server takes 1 kB.
const NOTE_LENGTH: usize = 250;

/// What keeps a function from being served, or a pool from being full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Unbuildable(Unbuildable),
    /// The API server refuses these pods, in these words.
    Refused {
        pods: Vec<String>,
        message: String,
    },
    /// The API server did not take the code.
    Code(String),
    /// Pods end before they are claimed.
    Ending,
}

/// Why a pod cannot come up; the message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    reason: String,
    message: String,
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
            // Gateways look for their own pod in it.
            Trouble::Refused { pods, message } => format!("{}: {message}", pods.join(", ")),
            Trouble::Code(message) => format!("the inline code cannot be stored: {message}"),
            Trouble::Ending => {
                "many pods ended unclaimed within a minute, and no more are made for as long: see \
                 whether the image is one of an instance, and its nodes have memory"
                    .to_owned()
            }
        }
    }
}

/// The status of a function now.
pub(crate) fn of<'a>(
    function: &FunctionResource,
    handler: Option<&Handler>,
    known: Option<&FunctionStatus>,
    pods: impl Iterator<Item = &'a Pod>,
    demands: &[&Demand],
    warm_pool: String,
    (trouble, stuck): (Option<&Trouble>, Option<&Stuck>),
) -> FunctionStatus {
    let living: Vec<&Pod> = pods
        .filter(|pod| !is_over(pod) && !is_being_deleted(pod))
        .collect();
    let fine = || Said::yes("Serving", "events are served");
    let conditions = known.map_or(&[][..], |known| &known.conditions);
    let said = said(trouble, stuck).unwrap_or_else(fine);
    let condition = condition(conditions, function.metadata.generation, said);
    FunctionStatus {
        observed_generation: function.metadata.generation,
        conditions: vec![condition],
        handler: handler.map_or_else(String::new, Handler::to_string),
        instances: living.len(),
        ready: living.iter().filter(|pod| is_ready(pod)).count(),
        in_flight: demands.iter().map(|demand| demand.in_flight).sum(),
        queued: demands.iter().map(|demand| demand.queued).sum(),
        warm_pool,
    }
}

/// The status of a pool now. `claims`: all that were ever counted.
pub(crate) fn of_pool(
    pool: &WarmPoolResource,
    known: Option<&WarmPoolStatus>,
    count: Count,
    claims: u64,
    (trouble, stuck): (Option<&Trouble>, Option<&Stuck>),
) -> WarmPoolStatus {
    let (wanted, ready) = (count.wanted, count.ready);
    let fine = || match ready >= wanted {
        true => Said::yes("Full", "as many instances wait as are wanted"),
        false => Said::no(
            "Filling",
            format!("{ready} of {wanted} instances are ready"),
        ),
    };
    let conditions = known.map_or(&[][..], |known| &known.conditions);
    let said = said(trouble, stuck).unwrap_or_else(fine);
    WarmPoolStatus {
        observed_generation: pool.metadata.generation,
        conditions: vec![condition(conditions, pool.metadata.generation, said)],
        wanted,
        ready,
        claimed: count.claimed,
        claims,
        refilling: count.refilling,
    }
}

/// The pool of the smallest class that the function fits, as gateways choose; or why there is none.
pub(crate) fn warm_pool(spec: &FunctionSpec, pools: &[(Class, String)]) -> String {
    if let Some(field) = spec.needs_own_pods() {
        return format!("none: {field} needs pods of its own");
    }
    let fitting = pools.iter().filter(|(class, _)| class.fits(spec)).min();
    fitting.map_or_else(
        || {
            let (memory, storage) = (spec.memory, spec.ephemeral_storage);
            let runtime = &spec.runtime;
            format!("none: no WarmPool of {runtime} with {memory}, and {storage} of storage")
        },
        |(_, name)| name.clone(),
    )
}

/// What the condition says.
struct Said {
    status: &'static str,
    reason: String,
    message: String,
}

impl Said {
    fn yes(reason: &str, message: &str) -> Self {
        Said {
            status: "True",
            ..Said::no(reason, message.to_owned())
        }
    }

    fn no(reason: &str, message: String) -> Self {
        Said {
            status: "False",
            reason: reason.to_owned(),
            message,
        }
    }
}

fn said(trouble: Option<&Trouble>, stuck: Option<&Stuck>) -> Option<Said> {
    let trouble = trouble.map(|trouble| Said::no(trouble.reason(), trouble.message()));
    let stuck = || Some(Said::no(&stuck?.reason, stuck?.message.clone()));
    trouble.or_else(stuck)
}

/// It keeps its time while its status is the same.
fn condition(known: &[Condition], generation: Option<i64>, said: Said) -> Condition {
    let since = ready(known).filter(|before| before.status == said.status);
    Condition {
        type_: READY.to_owned(),
        status: said.status.to_owned(),
        reason: said.reason,
        message: said.message,
        observed_generation: generation,
        last_transition_time: since
            .map_or_else(|| Time(now()), |before| before.last_transition_time.clone()),
    }
}

fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|one| one.type_ == READY)
}

/// In whole seconds, as the API server keeps times: what it shows is then what was written.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What `kubectl describe` shall keep of the way from one status to the next.
pub(crate) fn event(known: &[Condition], status: &[Condition]) -> Option<Event> {
    let (before, now) = (ready(known), ready(status)?);
    let is_ready = now.status == "True";
    let is_news = match before {
        Some(before) => before.reason != now.reason,
        None => !is_ready,
    };
    let (type_, action) = match is_ready {
        true => (EventType::Normal, "Serve"),
        false => (EventType::Warning, "Start"),
    };
    is_news.then(|| Event {
        type_,
        reason: now.reason.clone(),
        note: Some(now.message.chars().take(NOTE_LENGTH).collect()),
        action: action.to_owned(),
        secondary: None,
    })
}

pub(crate) fn state(pod: &Pod) -> PodState {
    match pod {
        pod if is_over(pod) || is_being_deleted(pod) => PodState::ending,
        pod if is_ready(pod) => PodState::ready,
        _ => PodState::starting,
    }
}

pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(crate) fn is_being_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

/// What keeps one of the living pods from coming up.
pub(crate) fn stuck<'a>(pods: impl Iterator<Item = &'a Pod>) -> Option<Stuck> {
    let mut living = pods.filter(|pod| !is_over(pod) && !is_being_deleted(pod));
    living.find_map(why_stuck)
}

fn why_stuck(pod: &Pod) -> Option<Stuck> {
    let status = pod.status.as_ref()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let mut waiting = waiting.filter(|waiting| {
        let reason = waiting.reason.as_deref();
        !matches!(reason, None | Some("ContainerCreating" | "PodInitializing"))
    });
    if let Some(waiting) = waiting.next() {
        let message = waiting.message.as_deref().unwrap_or_default();
        return Some(Stuck {
            reason: waiting.reason.clone()?,
            message: format!("{name}: {message}"),
        });
    }
    let mut conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.find(|one| {
        one.type_ == "PodScheduled" && one.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = unscheduled.message.as_deref().unwrap_or_default();
    Some(Stuck {
        reason: "Unschedulable".to_owned(),
        message: format!("{name}: {message}"),
    })
}
